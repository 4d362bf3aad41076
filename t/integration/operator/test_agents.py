# SPDX-License-Identifier: Apache-2.0
"""Agents that read server-status go on reading it with our section on it, and what we ship for them
works."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request

import pytest
import yaml

from harness import clients, lingerctl, places
from harness.ports import ReservedPort
from harness.sandbox import settle
from harness.waiting import wait_until

AGENTS = places.ROOT / "conf" / "agents"
MUNIN = "/usr/share/munin/plugins"
LINGER_STATUS = """
<VirtualHost 127.0.0.1:@status@>
  Linger Off
  <Location /linger-status>
    SetHandler linger-status
    Require all granted
  </Location>
  <Location /server-status>
    SetHandler server-status
    Require all granted
  </Location>
</VirtualHost>
"""
DOWN_LINES = [r"\[linger:warn\] .*lingerd is down: "]


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None and not os.path.exists(program),
                              reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def site(module_sandbox):
    httpd, lingerd = module_sandbox.site("event", config=LINGER_STATUS)
    for _ in range(4):
        clients.fetch(httpd.port)
    settle(httpd)
    return httpd, lingerd


@pytest.fixture(scope="module")
def stock(module_sandbox):
    return module_sandbox.httpd("event")


def url(httpd, path):
    return f"http://127.0.0.1:{httpd.ports['status']}{path}"


def output(*command, **env):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60,
                          check=True, env={"PATH": os.environ["PATH"], **env}).stdout


@contextlib.contextmanager
def running(*command):
    process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def fetch(address):
    with urllib.request.urlopen(address, timeout=20) as response:
        return response.read().decode()


def fetch_when_up(process, address):
    """Its first answer."""
    def answer():
        assert process.poll() is None, process.stderr.read()
        with contextlib.suppress(OSError):
            return fetch(address)
        return None
    return wait_until(answer, f"{address} answers")


# Programs that know nothing of us.

def sample_names(metrics):
    return set(re.findall(r"^(apache_\w+(?:\{[^}]*\})?) ", metrics, re.MULTILINE))


@needs("prometheus-apache-exporter")
def test_prometheus_apache_exporter_reads_on(site, stock):
    seen = []
    usage = subprocess.run(["prometheus-apache-exporter", "--help"], capture_output=True, text=True,
                           timeout=30, check=False)
    listen = next(flag for flag in ("--web.listen-address", "--telemetry.address")
                  if flag in usage.stdout + usage.stderr)
    for httpd in (stock, site[0]):
        port = ReservedPort()
        address = f"127.0.0.1:{port.number}"
        with running("prometheus-apache-exporter", f"{listen}={address}",
                     f"--scrape_uri={url(httpd, '/server-status?auto')}") as exporter:
            seen.append(fetch_when_up(exporter, f"http://{address}/metrics"))
        port.release()
    assert "\napache_up 1\n" in seen[1]
    assert sample_names(seen[1]) == sample_names(seen[0])
    assert float(re.search(r"^apache_accesses_total (\S+)", seen[1], re.MULTILINE)[1]) >= 4


@needs(f"{MUNIN}/apache_accesses")
@pytest.mark.parametrize("plugin", ["apache_accesses", "apache_processes", "apache_volume"])
def test_munins_own_plugins_read_on(site, plugin):
    httpd, _ = site
    text = output("perl", f"{MUNIN}/{plugin}", MUNIN_LIBDIR="/usr/share/munin",
                  url="http://127.0.0.1:%d/server-status?auto", ports=str(httpd.ports["status"]))
    values = re.findall(r"^\w+\.value (\S+)$", text, re.MULTILINE)
    assert values and all(re.fullmatch(r"\d+(\.\d+)?", value) for value in values), text


def telegraf_fields(text):
    """As telegraf's inputs.apache makes them: split at the first colon, keep what is a number."""
    fields = {}
    for line in text.splitlines():
        if ":" in line:
            key, value = line.split(":", 1)
            with contextlib.suppress(ValueError):
                fields[key.replace(" ", "")] = float(value.strip())
    return fields


def zabbix_fields(text):
    """As Zabbix's template "Apache by HTTP" does: its expression isn't anchored."""
    found = (re.search(r"([A-z0-9 ]+): (.*)", line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def test_rules_of_parsing_keep_stock_keys_and_find_ours(site, stock):
    httpd, lingerd = site

    def same_keys():
        # An httpd in its first second, or that has used no processor time yet, has fewer.
        texts = httpd.status_text(), stock.status_text()
        keys = [{line.partition(": ")[0] for line in text.splitlines()
                 if ": " in line and not line.startswith("Linger")} for text in texts]
        return texts if keys[0] == keys[1] else None

    text, plain = wait_until(same_keys, "the keys of both")
    fields = telegraf_fields(text)
    assert fields["LingerUp"] == 1 and fields["LingerQueueLimit"] == \
        lingerd.counters()["LingerQueueLimit"]
    for parse in (telegraf_fields, zabbix_fields):
        ours, theirs = parse(text), parse(plain)
        assert {key for key in ours if not key.startswith("Linger")} == set(theirs)
    assert zabbix_fields(text)["Uptime"] == re.search(r"^Uptime: (.*)", text, re.MULTILINE)[1]
    for line in text.splitlines():
        assert ": " in line or line in plain.splitlines()  # only httpd's own heading has none


# What we ship.

def munin(httpd, *arguments):
    return output(AGENTS / "munin-linger", *arguments, url=url(httpd, "/linger-status?auto"))


def munin_values(text):
    return dict(re.findall(r"^(\w+)\.value (\S+)$", text, re.MULTILINE))


def test_our_munin_plugin(site):
    httpd, _ = site
    assert munin(httpd, "autoconf") == "yes\n"
    config, values = munin(httpd, "config"), munin(httpd)
    graphs = re.findall(r"^multigraph (\w+)$", config, re.MULTILINE)
    assert graphs == re.findall(r"^multigraph (\w+)$", values, re.MULTILINE) and len(graphs) == 5
    labels = re.findall(r"^(\w+)\.label ", config, re.MULTILINE)
    assert labels == list(munin_values(values))
    assert all(value.isdigit() for value in munin_values(values).values())
    status = httpd.status()
    assert int(munin_values(values)["handoffs"]) == status["LingerHandoffs"]


def test_our_munin_plugin_while_lingerd_and_httpd_are_down(sandbox):
    httpd, lingerd = sandbox.site("event", config=LINGER_STATUS)
    lingerd.kill()
    values = munin_values(munin(httpd))
    assert values["queue"] == "U" and values["handoffs"].isdigit()
    httpd.stop()
    assert set(munin_values(munin(httpd)).values()) == {"U"}
    assert munin(httpd, "autoconf").startswith("no (")


@needs("promtool")
def test_our_prometheus_files():
    for command in (["check", "config"], ["check", "rules"], ["test", "rules"]):
        name = {"config": ".yml", "rules": ".rules.yml"}[command[1]]
        name = ".test.yml" if command[0] == "test" else name
        output("promtool", *command, AGENTS / f"prometheus-linger{name}")


def private_prometheus(directory, httpd):
    """Our configuration, with this httpd as its target and without its pauses."""
    config = yaml.safe_load((AGENTS / "prometheus-linger.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms",
                        "evaluation_interval": "200ms"}
    config["rule_files"] = [str(AGENTS / "prometheus-linger.rules.yml")]
    config["scrape_configs"][0]["static_configs"] = [
        {"targets": [f"127.0.0.1:{httpd.ports['status']}"]}]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@needs("prometheus")
def test_prometheus_scrapes_us_and_raises_the_alarm(sandbox):
    """By its own parser of OpenMetrics, with the types that it then knows."""
    httpd, lingerd = sandbox.site("event", config=LINGER_STATUS)
    clients.fetch(httpd.port)
    port = ReservedPort()
    api = f"http://127.0.0.1:{port.number}/api/v1"

    def query(expression):
        text = fetch(f"{api}/query?" + urllib.parse.urlencode({"query": expression}))
        result = json.loads(text)["data"]["result"]
        return result[0]["value"][1] if result else None

    with running("prometheus", "--config.file", private_prometheus(sandbox.directory, httpd),
                 "--storage.tsdb.path", sandbox.directory / "tsdb",
                 "--web.listen-address", f"127.0.0.1:{port.number}") as prometheus:
        fetch_when_up(prometheus, f"{api}/status/buildinfo")
        wait_until(lambda: query("lingerd_up") == "1", lambda: fetch(f"{api}/targets"))
        metadata = json.loads(fetch(f"{api}/targets/metadata"))["data"]
        types = {entry["metric"]: entry["type"] for entry in metadata}
        assert types["lingerd_sockets"] == "counter" and types["lingerd_queue"] == "gauge"
        assert float(query("mod_linger_handoffs_total + mod_linger_already_closed_total")) >= 1
        lingerd.kill()
        wait_until(lambda: query('ALERTS{alertname="LingerdDown"}') == "1", "the alert is pending")
    port.release()


def metric_names():
    text = lingerctl.print_of("--explain")
    return {name for name in re.findall(r"; (\w+)\)$", text, re.MULTILINE) if "_" in name} | {
        "lingerd_up", "lingerd_heartbeat_age_seconds"}


@pytest.mark.parametrize("name", ["grafana-linger.json", "prometheus-linger.rules.yml",
                                  "prometheus-linger.test.yml"])
def test_each_metric_that_we_name_exists(name):
    used = set(re.findall(r"\b(?:mod_linger|lingerd)_[a-z_]*[a-z]\b", (AGENTS / name).read_text()))
    assert used and used <= metric_names(), used - metric_names()


def test_our_grafana_dashboard():
    board = json.loads((AGENTS / "grafana-linger.json").read_text())
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource",
                                                                             "instance"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) > 5
    for panel in board["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")


def test_our_zabbix_template(site):
    """Each item finds its value in ?json, and each counter has an item."""
    httpd, _ = site
    told = json.loads(fetch(url(httpd, "/linger-status?json")))
    template = yaml.safe_load((AGENTS / "zabbix-linger.yaml").read_text())
    items = template["zabbix_export"]["templates"][0]["items"]
    paths = {step["parameters"][0].removeprefix("$.") for item in items[1:]
             for step in item["preprocessing"] if step["type"] == "JSONPATH"}
    assert paths == {key for key in told if key.startswith("Linger")}
    keys = {item["key"] for item in items}
    assert len(keys) == len(items)
    for item in items:
        for trigger in item.get("triggers", []):
            assert f"/{item['key']}," in trigger["expression"]


def test_our_telegraf_snippet_asks_for_the_page_that_has_our_keys():
    text = (AGENTS / "telegraf-linger.conf").read_text()
    assert "[[inputs.apache]]" in text and "/server-status?auto" in text
