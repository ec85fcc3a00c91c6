package guest

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

// Its boot would say "Invalid cloud-config provided": cloud-init 22.4 has no locale but text.
func TestTheSettingsOfCloudInitAreOnesThatDebian12TakesAsValid(t *testing.T) {
	var has struct{ Locale any }
	if err := yaml.Unmarshal([]byte(cloudSettings), &has); err != nil || has.Locale != "false" {
		t.Errorf("locale is %#v, %v", has.Locale, err)
	}
}
