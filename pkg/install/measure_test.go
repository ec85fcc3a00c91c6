package install

import (
	"context"
	"strings"
	"testing"
	"time"

	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/session"
)

func TestAStepThatHasStepsOfItsNameIsMeasuredOnce(t *testing.T) {
	s := &session.Session{}
	seen := 0
	s.Observe = func(session.Event) { seen++ }
	m := Measure(s, "web")
	nap := func(context.Context) error { time.Sleep(5 * time.Millisecond); return nil }
	never := session.Step{Name: "never", When: func(context.Context) (bool, string) { return false, "no" }, Run: nap}
	err := s.Do(context.Background(), []session.Step{never, {Name: "boot", Run: func(ctx context.Context) error {
		return s.Do(ctx, []session.Step{{Name: "open", Run: nap}, {Name: "boot", Run: nap}})
	}}})
	if err != nil || seen != 7 {
		t.Errorf("%v, %d events", err, seen)
	}
	if len(m.steps) != 2 || m.steps[1].Labels[1].Value != "boot" || m.steps[1].Value < m.steps[0].Value+0.005 {
		t.Errorf("%+v", m.steps)
	}
}

// No variant of Ganeti's may share its figures with creates that have none, or with those of vm
// create.
func TestNoVariantIsCalledAsWhatHasNone(t *testing.T) {
	if got := Measure(&session.Session{}, "").variant; got != NoVariant {
		t.Errorf("without a variant it is %q", got)
	}
	for _, variant := range []string{NoVariant, OfVM} {
		if _, err := osapi.New(osapi.Request{Verb: osapi.Create, InstanceName: "web1.example", Variant: variant}, nil); err == nil || !strings.Contains(err.Error(), "a variant's name can't start with a dot") {
			t.Errorf("%q may be a variant: %v", variant, err)
		}
	}
}
