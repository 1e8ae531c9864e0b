package report

import (
	"strings"
	"testing"
)

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
! fast is better than ours in CPU, µs: 4.00 against 6.00

           deliveries/s       min–max   vs best peer   CPU, µs   vs best peer   lost
  ours              300       200–400          2.00×      6.00         0.667×      0
  slow              100       100–100         0.667×      9.00         0.444×      0
  fast              150       150–150          1.00×      4.00          1.00×      0   1 of 2 runs: hung
  broken              –                                      –                     –   wrong bytes
  bare            1,000   1,000–1,000          6.67×      1.00          4.00×      0

  median spread: deliveries/s 50.0 %
`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}
