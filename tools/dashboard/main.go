// Command dashboard reads Grafana dashboards by Grafana's own types, strictly: a field that
// they don't have, one that they need, or a value that they refuse, is an error.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	known := cog.NewRuntime() // of all panels that there are it would take minutes to compile
	known.RegisterDataqueryVariant(prometheus.VariantConfig())
	known.RegisterPanelcfgVariant(bargauge.VariantConfig())
	known.RegisterPanelcfgVariant(stat.VariantConfig())
	known.RegisterPanelcfgVariant(table.VariantConfig())
	known.RegisterPanelcfgVariant(timeseries.VariantConfig())
	status := 0
	for _, name := range os.Args[1:] {
		if err := check(known, name); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			status = 1
		}
	}
	os.Exit(status)
}

func check(known *cog.Runtime, name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var types struct{ Panels []struct{ Type string } }
	if err := json.Unmarshal(text, &types); err != nil {
		return err
	}
	for _, p := range types.Panels {
		if _, ok := known.ConfigForPanelcfgVariant(p.Type); !ok {
			return fmt.Errorf("nothing is known here of panels of type %q: register them, if there are such", p.Type)
		}
	}
	var d dashboard.Dashboard
	var faults cog.BuildErrors // a list of none isn't nil
	if err := d.UnmarshalJSONStrict(text); err != nil && (!errors.As(err, &faults) || len(faults) > 0) {
		return err
	}
	return d.Validate()
}
