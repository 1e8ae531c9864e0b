package report

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
)

func TestReproduced(t *testing.T) {
	was, is := table(), table()
	text, err := json.Marshal(was)
	if err != nil {
		t.Fatal(err)
	}
	was = &Table{}
	if err := json.Unmarshal(text, was); err != nil {
		t.Fatal(err)
	}
	is.Rows[0].Samples[0] = Samples{600}       // within the row's own spread
	is.Rows[1].Samples[0] = Samples{149}       // within the column's
	is.Rows[1].Samples[1] = Samples{8, 11, 12} // within what is now the row's own
	is.Rows[2].Samples[0] = Samples{math.Inf(1)}
	is.Rows[4].Samples[0] = Samples{500}
	is.Rows[4].Samples[2] = Samples{7} // a column without a ratio is not compared
	compared, not := is.Reproduced(was)
	want := []string{
		"| t | fast | deliveries/s | never | 150 | 50.0 % |",
		"| t | bare | deliveries/s | 500 | 1,000 | 50.0 % |",
	}
	if compared != 8 || !slices.Equal(not, want) {
		t.Errorf("%d compared, want 8; not reproduced: %q", compared, not)
	}
}
