# make help lists the targets.
# ./configure writes config.mk; without it the defaults below hold.
-include config.mk

prefix        ?= /usr
exec_prefix   ?= $(prefix)
sbindir       ?= $(exec_prefix)/sbin
datarootdir   ?= $(prefix)/share
datadir       ?= $(datarootdir)
mandir        ?= $(datarootdir)/man
sysconfdir    ?= /etc
localstatedir ?= /var
# Where Ganeti looks for OS definitions; ours is debootstrap in it.
osdir         ?= $(datadir)/ganeti/os
# Where everything that is built goes.
builddir      ?= build

name         := instance-debootstrap
os_dir        = $(osdir)/debootstrap
defaults_file = $(sysconfdir)/default/ganeti-instance-debootstrap
conf_dir      = $(sysconfdir)/ganeti/instance-debootstrap
cache_dir     = $(localstatedir)/cache/ganeti-instance-debootstrap
state_dir     = $(localstatedir)/lib/instance-debootstrap
examples_dir  = $(conf_dir)/hooks-examples
man5_dir      = $(mandir)/man5
man7_dir      = $(mandir)/man7
man8_dir      = $(mandir)/man8
# Completions, where each shell looks for them.
bash_dir      = $(datadir)/bash-completion/completions
zsh_dir       = $(datadir)/zsh/vendor-completions
fish_dir      = $(datadir)/fish/vendor_completions.d

verbs   := create import export rename verify
os_data := ganeti_api_version
binary   = $(builddir)/$(name)
# Files that name the folders, from FILE.in.
pages   := $(patsubst %.in,$(builddir)/%,$(wildcard docs/*.[578].in))
texts    = $(builddir)/common.sh $(pages)
variants := $(wildcard defaults/variants/*.conf)
layouts  := $(wildcard examples/layouts/*)
examples := $(shell find hooks -type f ! -name '*.go' ! -path '*/testdata/*' 2>/dev/null)

# The version is worked out once, when it is first needed; so is the go command.
once     = $(eval $1 := $2)$($1)
version  = $(call once,version,$(shell tools/version))
find_go  = $(call once,find_go,$(or $(GO),$(shell tools/find-go)))
paths   := instance-debootstrap/pkg/paths
ldflags  = -s -w -X $(paths).Version=$(version) -X $(paths).OSDir=$(os_dir) \
	-X $(paths).DefaultsFile=$(defaults_file) -X $(paths).ConfDir=$(conf_dir) \
	-X $(paths).CacheDir=$(cache_dir) -X $(paths).StateDir=$(state_dir)
# Folders too, so that a removed file is noticed.
sources := go.mod go.sum $(shell find cmd os pkg -name testdata -prune -o ! -name '*_test.go' -print)

.PHONY: help all install uninstall dist deb check check-fast check-boot check-life check-vm check-power check-kills check-races check-long check-tools check-packages check-node torture rpm release demo bench clean distclean FORCE
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

help:
	@sed -n 's/^#: //p' Makefile

#: make                      build the program
all: $(binary) $(texts)

$(binary): $(sources) $(builddir)/stamp
	$(if $(find_go),,$(error no go command))CGO_ENABLED=0 '$(find_go)' build -tags urfave_cli_no_docs -trimpath -buildvcs=false -ldflags '$(ldflags)' -o $@ ./cmd/$(name)
	@touch $@

# Changes only when the version or a path does.
$(builddir)/stamp: FORCE
	@mkdir -p $(@D)
	@echo '$(ldflags)' | cmp -s - $@ || echo '$(ldflags)' > $@

$(texts): $(builddir)/%: %.in $(builddir)/stamp
	@mkdir -p $(@D)
	sed -e 's|@VERSION@|$(version)|g' -e 's|@OS_DIR@|$(os_dir)|g' -e 's|@DEFAULTS_FILE@|$(defaults_file)|g' \
		-e 's|@CONF_DIR@|$(conf_dir)|g' -e 's|@CACHE_DIR@|$(cache_dir)|g' $< > $@

# $(call each_conf,MODE): one install-conf line for every file of the admin's.
define each_conf
	@tools/install-conf $(or $1,644) defaults/ganeti-instance-debootstrap '$(DESTDIR)$(defaults_file)'
	@tools/install-conf $(or $1,644) variants.list '$(DESTDIR)$(conf_dir)/variants.list'
	@for f in $(notdir $(variants)); do \
		tools/install-conf $(or $1,644) defaults/variants/$$f '$(DESTDIR)$(conf_dir)/variants/'$$f || exit 1; done
	@for f in $(notdir $(layouts)); do \
		tools/install-conf $(or $1,644) examples/layouts/$$f '$(DESTDIR)$(conf_dir)/layouts-examples/'$$f || exit 1; done
	@for f in $(patsubst hooks/%,%,$(examples)); do \
		mode=644; test ! -x hooks/$$f || mode=755; \
		tools/install-conf $(or $1,$$mode) hooks/$$f '$(DESTDIR)$(examples_dir)/'$$f || exit 1; done
endef

# The links are relative, so that a tree under DESTDIR works where it is; the
# binary is replaced by a rename, since Ganeti may start it at any moment. Ganeti's
# list of OS parameters is made with the site's, on the node that it is for.
#: make install [DESTDIR=]  put it where ./configure said (also: make uninstall)
install: all
	@create='$(DESTDIR)$(os_dir)/create'; if [ -f "$$create" ] && [ ! -L "$$create" ]; then \
		echo "$$create is another OS provider's: remove that first (package ganeti-instance-debootstrap?), or install elsewhere with --with-os-dir" >&2; exit 1; fi
	umask 022 && mkdir -p '$(DESTDIR)$(sbindir)' '$(DESTDIR)$(bash_dir)' '$(DESTDIR)$(zsh_dir)' '$(DESTDIR)$(fish_dir)' '$(DESTDIR)$(os_dir)' '$(DESTDIR)$(man5_dir)' '$(DESTDIR)$(man7_dir)' '$(DESTDIR)$(man8_dir)' \
		'$(DESTDIR)$(conf_dir)/variants' '$(DESTDIR)$(conf_dir)/layouts' '$(DESTDIR)$(conf_dir)/hooks' '$(DESTDIR)$(examples_dir)' '$(DESTDIR)$(cache_dir)'
	install -m 755 $(binary) '$(DESTDIR)$(sbindir)/.$(name).new'
	mv -f '$(DESTDIR)$(sbindir)/.$(name).new' '$(DESTDIR)$(sbindir)/$(name)'
	install -m 644 $(os_data) $(builddir)/common.sh '$(DESTDIR)$(os_dir)'
	for verb in $(verbs); do ln -sfrT '$(DESTDIR)$(sbindir)/$(name)' '$(DESTDIR)$(os_dir)/'$$verb || exit 1; done
	ln -sfrT '$(DESTDIR)$(conf_dir)/variants.list' '$(DESTDIR)$(os_dir)/variants.list'
	@old='$(DESTDIR)$(sbindir)/vmbootstrap'; if [ -e "$$old" ] && [ "$$(readlink "$$old")" != $(name) ]; then \
		echo "$$old is somebody else's, and stays"; else \
		ln -sfn $(name) "$$old" && ln -sfn $(name)-vm.8 '$(DESTDIR)$(man8_dir)/vmbootstrap.8'; fi
	install -m 644 $(filter %.5,$(pages)) '$(DESTDIR)$(man5_dir)'
	install -m 644 $(filter %.7,$(pages)) '$(DESTDIR)$(man7_dir)'
	install -m 644 $(filter %.8,$(pages)) '$(DESTDIR)$(man8_dir)'
	install -m 644 contrib/completions/$(name).bash '$(DESTDIR)$(bash_dir)/$(name)'
	install -m 644 contrib/completions/_$(name) '$(DESTDIR)$(zsh_dir)/_$(name)'
	install -m 644 contrib/completions/$(name).fish '$(DESTDIR)$(fish_dir)/$(name).fish'
	$(call each_conf)
	@if [ -n '$(DESTDIR)' ]; then install -m 644 parameters.list '$(DESTDIR)$(os_dir)/parameters.list'; else '$(sbindir)/$(name)' parameters --update; fi

uninstall: $(texts)
	for f in $(verbs) variants.list; do f='$(DESTDIR)$(os_dir)/'$$f; test ! -L "$$f" || rm "$$f" || exit 1; done
	rm -f $(addprefix '$(DESTDIR)$(os_dir)/',$(os_data) common.sh parameters.list)
	@for old in '$(DESTDIR)$(sbindir)/vmbootstrap' '$(DESTDIR)$(man8_dir)/vmbootstrap.8'; do \
		case "$$(readlink "$$old")" in $(name)|$(name).8|$(name)-vm.8) rm "$$old";; esac; done
	rm -f '$(DESTDIR)$(sbindir)/$(name)' $(foreach page,$(notdir $(pages)),'$(DESTDIR)$(mandir)/man$(patsubst .%,%,$(suffix $(page)))/$(page)') \
		'$(DESTDIR)$(bash_dir)/$(name)' '$(DESTDIR)$(zsh_dir)/_$(name)' '$(DESTDIR)$(fish_dir)/$(name).fish'
	$(call each_conf,--remove)
	@for dir in '$(DESTDIR)$(os_dir)' '$(DESTDIR)$(conf_dir)' '$(DESTDIR)$(cache_dir)'; do test ! -d "$$dir" || { \
		find "$$dir" -depth -type d -empty -delete; test ! -d "$$dir" || echo "kept (not empty): $$dir"; }; done

#: make dist, make deb      a tarball with all Go modules; a Debian package of nothing else
dist:
	tools/dist $(builddir)

deb:
	test/prepare deb
	tools/deb $(builddir)

#: make rpm                 an rpm package, of the same tarball
rpm:
	test/prepare rpm
	tools/rpm $(builddir)

#: make release             all of these and their checksums, in build/release
release:
	test/prepare deb
	test/prepare rpm
	tools/release $(builddir)/release

#: make check-packages [SUITES=...]  the packages built and installed on bookworm, trixie and sid
check-packages:
	test/prepare check
	test/prepare rpm
	status=0; for suite in $(or $(SUITES),bookworm trixie sid); do echo "== $$suite"; \
		TEST_SUITE=$$suite BUILD_THERE=yes test/package/run || status=1; done; \
	echo "== rpm"; test/package/rpm || status=1; \
	echo "== release"; test/package/release || status=1; exit $$status

#: make check               every check; root, loop devices, apt (about fifty minutes)
check:
	test/prepare check
	test/check

#: make check-fast          linters, and the tests that need no root
check-fast:
	test/check fast

#: make check-boot          guests of all suites booted; writes docs/boot-matrix.md
check-boot:
	test/prepare boot
	test/boot-matrix

#: make check-life [SUITE=]  a guest's whole life under a real Ganeti; writes docs/life.md
check-life:
	test/prepare check
	test/ganeti/life '$(or $(SUITE),trixie)' docs/life.md

#: make check-vm            all tests of the vm commands, on a real libvirtd
check-vm:
	test/prepare check
	test/libvirt/run

#: make check-power         power cuts at every flush, I/O errors; see docs/reliability.md
check-power:
	test/prepare check
	POWER_CUTS='$(or $(CUTS),100)' '$(find_go)' test -tags root -count 1 -timeout 0 -v -run 'TestAPowerCut|TestAnIOError|TestARecord' ./test/root

#: make check-kills [COUNT=1000]  each verb killed at any moment and system call; see docs/reliability.md
check-kills:
	test/prepare check
	KILL_COUNT='$(or $(COUNT),1000)' KILL_CALLS='$(or $(COUNT),1000)' '$(find_go)' test -tags root -count 1 -timeout 0 -v \
		-run 'TestKilledAtAnyMoment|TestKilledAtEachSystemCall' ./test/root

#: make check-races [CELLS=5000]  a race at every lock, 16 runs of each verb at once
check-races:
	test/prepare check
	RACE_CELLS='$(or $(CELLS),5000)' MANY_COUNT=16 '$(find_go)' test -tags root -count 1 -timeout 0 -v -run 'TestARaceAtAnyLock|TestAllVerbsAtOnce|TestSettingsThatMeanOneTree' ./test/root

#: make check-long [COUNT=1000]   that many creates and exports in a row, and what is large
check-long:
	test/prepare check
	LONG_COUNT='$(or $(COUNT),1000)' '$(find_go)' test -tags root -count 1 -timeout 0 -v -run 'TestWhatANodeHolds|TestACacheOfManyEntries|TestALarge' ./test/root

#: make check-tools [SUITES=...] the verbs with the tools of other suites, trixie and sid
check-tools:
	test/prepare check
	test/tools/run $(SUITES)

#: make check-node          nodes with LVM, DRBD, systemd and Ganeti, emulated; writes docs/nodes.md (hours)
check-node:
	test/prepare boot
	status=0; TEST_SUITE=bookworm test/node/run docs/nodes.md || status=1; \
	TEST_SUITE=trixie NODE_FIRMWARE=uefi test/node/run docs/nodes.md || status=1; \
	TEST_SUITE=bookworm NODE_ARCH=arm64 PARTS='ganeti guest kills' test/node/run docs/nodes.md || status=1; exit $$status

#: make torture [HOURS=8]   generated attacks, faults and fuzzing, from where the last ones ended
torture:
	test/prepare check
	test/torture '$(or $(HOURS),8)'

#: make demo                the main job: a guest on an image file
demo:
	test/prepare demo
	test/demo

#: make bench               the figures of docs/performance.md
bench:
	test/prepare bench
	test/bench/run

#: make clean, distclean    remove what was built; also what ./configure made
clean:
	rm -rf $(builddir)/$(name) $(builddir)/stamp $(texts) $(builddir)/bin $(builddir)/trees $(builddir)/demo.img $(builddir)/totals $(name) $(builddir)/$(name)[-_]*

distclean: clean
	rm -rf $(builddir) configure config.mk config.log config.status autom4te.cache
