// Grafana's types, for a check of the example dashboard: apart from the product's go.mod, and
// from that of the other tools.
module instance-debootstrap/tools/dashboard

go 1.25.0

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
