"""Debian's Chromium, driven over the WebDriver protocol with the standard library alone."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
_KEY = "element-6066-11e4-a52e-4f735466cecf"  # of an element, in the standard
# Without these it looks for its maker's hosts at every start.
_ARGUMENTS = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"]
_ARGUMENTS += ["disable-background-networking", "disable-component-update", "disable-sync"]


class Browser:
    """A window of its own, with an empty profile in ``folder``."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._log = (folder / "driver.log").open("w")
        self._process = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=self._log, stderr=subprocess.STDOUT
        )
        self._url = f"http://127.0.0.1:{port}"
        self._wait_for_driver()
        arguments = [f"--{name}" for name in _ARGUMENTS] + [f"--user-data-dir={folder / 'profile'}"]
        chrome = {"binary": CHROMIUM, "args": arguments}
        wanted = {"browserName": "chrome", "goog:chromeOptions": chrome}
        wanted["goog:loggingPrefs"] = {"browser": "ALL"}
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._url += "/session/" + made["sessionId"]

    def _wait_for_driver(self):
        for _ in range(300):
            try:
                if self._ask("GET", "/status")["ready"]:
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("chromedriver does not answer")

    def _ask(self, method, path, content=None):
        data = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def _find(self, css):
        using = {"using": "css selector", "value": css}
        return [found[_KEY] for found in self._ask("POST", "/elements", using)]

    def texts(self, css):
        """What a reader sees of each such element."""
        return [self._ask("GET", f"/element/{found}/text") for found in self._find(css)]

    def type(self, css, text):
        (found,) = self._find(css)
        self._ask("POST", f"/element/{found}/clear", {})
        self._ask("POST", f"/element/{found}/value", {"text": text})

    def click(self, css):
        (found,) = self._find(css)
        self._ask("POST", f"/element/{found}/click", {})

    def run(self, script, *arguments):
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def errors(self):
        """What the page has written to its console since the last call."""
        return self._ask("POST", "/se/log", {"type": "browser"})

    def wait(self, is_done, seconds=120):
        end = time.monotonic() + seconds
        while not (found := is_done()):
            assert time.monotonic() < end, "the page did not come so far"
            time.sleep(0.1)
        return found

    def screenshot(self):
        return self._ask("GET", "/screenshot")

    def close(self):
        with contextlib.suppress(OSError):
            self._ask("DELETE", "")
        self._process.terminate()
        self._process.wait(timeout=30)
        self._log.close()
