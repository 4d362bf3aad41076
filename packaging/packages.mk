# SPDX-License-Identifier: Apache-2.0
# Packages, policies, and the tests that install them. Included by the Makefile.

.PHONY: man deb rpm rpm-test selinux apparmor units system-test lsm-test distro-test distro-root
man: all ## Write the options and counters into the manuals and docs/, and check them
	@$(PYTHON) packaging/man/generate.py
	@cd packaging/man && mandoc -T lint *.[1-8]

deb: deps ## Build the Debian packages of the last commit in build/deb, and check them
	@packaging/deb/build

rpm: deps ## Build the RPM packages of the last commit in build/rpm, and check them (RPM_ARGS)
	@packaging/rpm/build $(RPM_ARGS)
rpm-test: rpm ## Install the RPM packages into an empty root, and run the module from there
	@packaging/rpm/test

selinux: deps ## Compile the SELinux module into build/selinux
	@packaging/selinux/build

apparmor: deps ## Let apparmor_parser read the AppArmor profile
	@apparmor_parser -QK packaging/apparmor/usr.sbin.lingerd

units: deps ## Let systemd-analyze judge the units
	@packaging/check-units

system-test: deb ## Install the Debian packages on a systemd that boots (PYTEST_ARGS)
	@t/system/run $(PYTEST_ARGS)
distro-test: deps ## The packages built, installed and tested on another Debian (DISTRO=trixie, ARCH, PYTEST_ARGS)
	@ARCH=$(ARCH) t/distro/run $(or $(DISTRO),trixie) $(PYTEST_ARGS)
distro-root: # What distro-test needs the network for
	@ARCH=$(ARCH) t/distro/run $(or $(DISTRO),trixie) --root-only
lsm-test: deb ## The same under an enforcing SELinux and AppArmor, in virtual machines (a few minutes)
	@packaging/install-deps deb qemu-system-x86
	@t/system/lsm/run $(PYTEST_ARGS)
