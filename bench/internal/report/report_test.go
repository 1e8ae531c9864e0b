package report

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		samples Samples
		want    float64
	}{
		{Samples{3}, 3},
		{Samples{3, 1, 2}, 2},
		{Samples{4, 1, 3, 2}, 2.5},
		{Samples{inf, 1, 2}, 2},
		{Samples{inf, inf}, inf},
		{Samples{1, inf}, inf},
	} {
		if got := c.samples.Median(); got != c.want {
			t.Errorf("%v: got %v, want %v", c.samples, got, c.want)
		}
	}
	if got := (Samples{}).Median(); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		sorted  []int64
		missing int
		p, want float64
	}{
		{hundred, 0, 0.5, 50},
		{hundred, 0, 0.99, 99},
		{hundred, 0, 1, 100},
		{hundred, 0, 0, 1},
		{hundred[:1], 0, 0.99, 1},
		{hundred[:99], 1, 0.99, 99},
		{hundred[:98], 2, 0.99, math.Inf(1)},
		{nil, 1, 0.5, math.Inf(1)},
	} {
		if got := Percentile(c.sorted, c.missing, c.p); got != c.want {
			t.Errorf("%v of %d and %d missing: got %v, want %v", c.p, len(c.sorted), c.missing, got, c.want)
		}
	}
}

func TestFormat(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.0001: "<0.001", 0.0123: "0.012", 0.1234: "0.123", 1.005: "1.00", 9.999: "10.0", 12.34: "12.3",
		123.4: "123", 1234: "1,230", 1234567: "1,230,000", 999.9: "1,000", -1234: "-1,230", -123: "-123",
		math.Inf(1): "never",
	} {
		if got := Format(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}

func table() *Table {
	return &Table{
		Name:    "t",
		Title:   "full rate",
		Columns: []Column{{"deliveries/s", Higher, true, true}, {"CPU, µs", Lower, true, false}, {"lost", Lower, false, false}},
		Rows: []Row{
			{"ours", Ours, []Samples{{400, 200, 300}, {6}, {0}}, nil},
			{"slow", Peer, []Samples{{100}, {9}, {0}}, nil},
			{"fast", Peer, []Samples{{150, 150}, {4}, {0}}, []string{"1 of 2 runs: hung"}},
			{"broken", Peer, nil, []string{"wrong bytes"}},
			{"bare", Limit, []Samples{{1000}, {1}, {0}}, nil},
		},
	}
}

func TestTableSaysFirstWhereAPeerIsBetter(t *testing.T) {
	var b strings.Builder
	if err := table().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `full rate
! fast is better than ours: CPU, µs 4.00, against 6.00

           deliveries/s       min–max   vs best peer   CPU, µs   vs best peer   lost
  ours              300       200–400          2.00×      6.00         0.667×      0
  slow              100       100–100         0.667×      9.00         0.444×      0
  fast              150       150–150          1.00×      4.00          1.00×      0   1 of 2 runs: hung
  broken              –                                      –                     –   wrong bytes
  bare            1,000   1,000–1,000          6.67×      1.00          4.00×      0

  spread: deliveries/s 50.0 %
`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}

func TestPlotIsWellFormed(t *testing.T) {
	for c := range table().Columns {
		d := xml.NewDecoder(strings.NewReader(table().Plot(c)))
		for {
			_, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

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
	is.Rows[4].Samples[2] = Samples{7} // no column that is compared
	compared, not := is.Reproduced(was)
	want := []string{
		"t, fast, deliveries/s: never, was 150 with a spread of 50.0 %",
		"t, bare, deliveries/s: 500, was 1,000 with a spread of 50.0 %",
	}
	if compared != 8 || !slices.Equal(not, want) {
		t.Errorf("%d compared, not reproduced: %q", compared, not)
	}
}
