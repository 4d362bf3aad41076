# SPDX-License-Identifier: Apache-2.0
# What `make deps` installs when it is missing, by Debian's names and by Fedora's. A|B: the first of
# them that the distribution has. One section for each use, so that a list can grow with its room.

# Building.
DEB_PACKAGES += make g++ pkg-config apache2-dev libsystemd-dev libcli11-dev
RPM_PACKAGES += make gcc-c++ pkgconf-pkg-config httpd-devel systemd-devel cli11-devel

# Unit tests, sanitizers, fuzzing, make lint.
DEB_PACKAGES += cpputest libcpputest-dev|cpputest clang clang-format clang-tidy
DEB_PACKAGES += libclang-rt-14-dev|libclang-rt-dev python3
RPM_PACKAGES += cpputest cpputest-devel clang clang-tools-extra compiler-rt libasan libubsan libtsan
RPM_PACKAGES += python3

# The integration tests: a real httpd (the program, not the service), PHP inside it, and clients.
DEB_PACKAGES += apache2-bin libapache2-mod-php8.2|libapache2-mod-php python3-pytest python3-pytest-timeout python3-pytest-xdist
DEB_PACKAGES += curl openssl nghttp2-client systemd
RPM_PACKAGES += httpd mod_ssl mod_http2 php python3-pytest python3-pytest-timeout python3-pytest-xdist
RPM_PACKAGES += curl openssl nghttp2 systemd

# Modules that LingerKeepAlive is tried with.
DEB_PACKAGES += libapache2-mod-qos libapache2-mod-security2 libapache2-mod-evasive libapache2-mpm-itk

# The tests of what operators see: the agents that read our pages, and the manuals.
DEB_PACKAGES += prometheus prometheus-apache-exporter python3-prometheus-client python3-yaml
DEB_PACKAGES += munin-plugins-core libwww-perl mandoc
RPM_PACKAGES += golang-github-prometheus python3-prometheus_client python3-pyyaml munin-node
RPM_PACKAGES += perl-libwww-perl mandoc

# ablinger, the load of the demo and of the benchmark: TLS and JSON.
DEB_PACKAGES += libssl-dev nlohmann-json3-dev
RPM_PACKAGES += openssl-devel json-devel

# Packages, policies and a machine that boots. `make demo` does without these.
PACKAGING_DEB := git build-essential debhelper fakeroot procps dh-apparmor apparmor lintian
PACKAGING_DEB += rpm rpmlint selinux-policy-dev debootstrap systemd-container
PACKAGING_RPM := git rpm-build rpmlint selinux-policy-devel systemd-rpm-macros
