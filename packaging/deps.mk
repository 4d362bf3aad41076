# SPDX-License-Identifier: Apache-2.0
# What `make deps` installs when it is missing, by Debian's names and by Fedora's. A|B: the first of
# them that the distribution has. newest:A: brought up to date as well. One list for each use:
# `make deps DEPS="build load"` installs for those alone.

# Building.
DEB_build += make g++ pkgconf|pkg-config apache2-dev libsystemd-dev libssl-dev
RPM_build += make gcc-c++ pkgconf-pkg-config httpd-devel systemd-devel openssl-devel

# Unit tests.
DEB_unit += cpputest libcpputest-dev|cpputest
RPM_unit += cpputest cpputest-devel

# Sanitizers, fuzzing, make lint. misc-include-cleaner came with clang-tidy 17: only where the
# distribution's own is older is another one asked for, beside it.
DEB_lint += clang clang-format clang-tidy clang-tidy-19|clang-tidy-21 libclang-rt-14-dev|libclang-rt-dev
DEB_lint += python3 python3-yaml
RPM_lint += clang clang-tools-extra compiler-rt libasan libubsan libtsan python3 python3-pyyaml

# The integration tests: a real httpd (the program, not the service), PHP inside it, and clients.
DEB_integration += apache2-bin libapache2-mod-php8.2|libapache2-mod-php python3-pytest python3-pytest-timeout python3-pytest-xdist
DEB_integration += curl nghttp2-client systemd
# mod_ssl warns at each start of a libssl that is older than the one that it was built with.
DEB_integration += newest:libssl3t64|libssl3 newest:openssl
RPM_integration += httpd mod_ssl mod_http2 php python3-pytest python3-pytest-timeout python3-pytest-xdist
RPM_integration += curl openssl nghttp2 systemd
# Clients that are tried over TLS. Browsers, Node and a JDK are large: they are where they are installed.
DEB_integration += gnutls-bin wrk
RPM_integration += gnutls-utils

# mod_perl inside it: cleanup handlers, children that end with a request.
DEB_integration += libapache2-mod-perl2
RPM_integration += mod_perl

# Modules that LingerKeepAlive is tried with.
DEB_modules += libapache2-mod-qos libapache2-mod-security2 libapache2-mod-evasive libapache2-mpm-itk libapache2-mod-bw

# The tests of what operators see: the agents that read our pages, and the manuals.
DEB_operators += prometheus prometheus-apache-exporter python3-prometheus-client python3-yaml
DEB_operators += munin-plugins-core libwww-perl mandoc
RPM_operators += golang-github-prometheus python3-prometheus_client python3-pyyaml munin-node
RPM_operators += perl-libwww-perl mandoc

# ablinger, the load of the demo and of the benchmark.
DEB_load += libssl-dev
RPM_load += openssl-devel

# Debian's packages; then others, policies and machines that boot.
DEB_deb += git build-essential debhelper fakeroot procps dh-apparmor apparmor lintian
DEB_packages += rpm rpmlint selinux-policy-dev debootstrap systemd-container
RPM_packages += git rpm-build rpmlint selinux-policy-devel systemd-rpm-macros

# The demo's httpd, and what drives it.
DEB_demo += apache2-bin python3
RPM_demo += httpd python3

DEPS ?= build unit lint integration modules operators load deb packages
DEB_PACKAGES += $(foreach use,$(DEPS),$(DEB_$(use)))
RPM_PACKAGES += $(foreach use,$(DEPS),$(RPM_$(use)))
