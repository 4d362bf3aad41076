# SPDX-License-Identifier: Apache-2.0
# Packages, policies, and the tests that install them. Included by the Makefile; what only these need
# is no part of `make deps`.

PACKAGING_DEB := debhelper dpkg-dev fakeroot dh-apparmor apparmor lintian
PACKAGING_DEB += rpm rpmlint selinux-policy-dev
PACKAGING_DEB += debootstrap systemd-container
PACKAGING_RPM := rpm-build rpmlint selinux-policy-devel systemd-rpm-macros
PACKAGING_RPM += systemd-container debootstrap

.PHONY: man packaging-deps deb rpm rpm-test selinux apparmor system-test lsm-test
packaging-deps: deps
	@if command -v dpkg-query >/dev/null; then packaging/install-deps deb $(PACKAGING_DEB); \
	else packaging/install-deps rpm $(PACKAGING_RPM); fi

man: all ## Write the options and counters into the manuals, and check them
	@$(PYTHON) packaging/man/generate.py
	@cd packaging/man && mandoc -T lint *.[1-8]

deb: packaging-deps ## Build the Debian packages of the last commit in build/deb, and check them
	@packaging/deb/build

rpm: packaging-deps ## Build the RPM packages of the last commit in build/rpm, and check them
	@packaging/rpm/build
rpm-test: rpm ## Install the RPM packages into an empty root, and run the module from there
	@packaging/rpm/test

selinux: packaging-deps ## Compile the SELinux module into build/selinux
	@packaging/selinux/build

apparmor: packaging-deps ## Let apparmor_parser read the AppArmor profile
	@apparmor_parser -QK packaging/apparmor/usr.sbin.lingerd

system-test: deb ## Install the Debian packages on a systemd that boots (PYTEST_ARGS)
	@t/system/run $(PYTEST_ARGS)
lsm-test: deb ## The same under an enforcing SELinux and AppArmor, in virtual machines (a few minutes)
	@packaging/install-deps deb qemu-system-x86
	@t/system/lsm/run $(PYTEST_ARGS)
