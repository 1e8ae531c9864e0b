package report

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

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
