"""Metrics of users and of models: the same memory, over all workers, kills and reloads."""

import os
import signal

from nginx import Nginx, running, wait_for
from scrape import check_order, scrape, scrape_prometheus, value

APP = """
import os
import torch
import webtorch
from jaxtyping import Float32
from torch import Tensor, nn, optim
from webtorch import metrics

words = metrics.counter("app_words_total", 'Words, "all" of them\\n.', labels=["language"])
depth = metrics.gauge("app_depth", "How deep.")
peak = metrics.gauge("app_peak", aggregate="max")
sizes = metrics.histogram("app_sizes", buckets=BOUNDS)

model = webtorch.Model("line", nn.Linear(1, 1), lambda p: optim.SGD(p, lr=0.0))

@webtorch.train
def train(x: Float32[Tensor, "batch 1"]) -> Float32[Tensor, "batch 1"]:
    model.step((model(x) * 0).sum() + x.mean())
    return x

@webtorch.handler
def count(request):
    words.labels(language='a"b\\\\c').inc(2.5)
    for letter in "ab":
        words.labels(language=letter * 300).inc()
    depth.set(3)
    peak.set(os.getpid())
    sizes.observe(2)
    sizes.observe(100)
    return str(os.getpid())
"""

SERVER = """
location = /train { webtorch_handler app:train max_batch=1; }
location = /count { webtorch_handler app:count; }
location = /status { webtorch_status; }
"""


def test_metrics_of_users_and_models():
    app = APP.replace("BOUNDS", "[1, 10]")
    nginx = Nginx(SERVER, app, workers=2)
    nginx.configure(http=f"webtorch_zone models:4m; webtorch_checkpoint {nginx.prefix}/saved;")
    nginx.expected_in_log.append("exited on signal 9")
    with running(nginx):
        calls = 0

        def is_known_to(count: int) -> bool:
            nonlocal calls
            calls += 1
            pids.add(int(nginx.get("/count").text))
            return len(pids) == count

        pids: set[int] = set()
        wait_for(lambda: is_known_to(2), "answers of both workers")
        for number in (1.0, 3.0):
            assert nginx.post("/train", [[number]]).ok
        samples = scrape(nginx)
        language = {"language": 'a"b\\c'}
        assert value(samples, "app_words_total", **language) == 2.5 * calls
        assert value(samples, "app_depth") == 6
        workers = nginx.log().count("metric app_words_total has labels of more than 256 bytes")
        assert workers == 2  # that of each, once
        assert value(samples, "app_peak") == max(pids)
        assert value(samples, "app_sizes_count") == 2 * calls
        assert value(samples, "app_sizes_bucket", le="10") == calls
        assert value(samples, "app_sizes_bucket", le="1") == 0
        assert value(samples, "app_sizes_sum") == 102 * calls
        assert value(samples, "webtorch_model_steps_total", model="line") == 2
        assert value(samples, "webtorch_model_loss", model="line") == 3
        assert value(samples, "webtorch_model_workers", model="line") == 2
        wait_for(
            lambda: any(name.endswith("checkpoint_age_seconds") for name, _ in scrape(nginx)),
            "a checkpoint",
        )
        plain = scrape_prometheus(nginx)
        assert value(plain, "app_words_total", **language) == 2.5 * calls
        # in OpenMetrics a quote is escaped, in the other format it must not be
        text = nginx.get("/status?format=prometheus").text
        assert '# HELP app_words_total Words, "all" of them\\n.\n' in text
        text = nginx.get("/status?format=openmetrics").text
        assert '# HELP app_words Words, \\"all\\" of them\\n.\n' in text

        os.kill(min(nginx.workers()), signal.SIGKILL)
        wait_for(lambda: value(scrape(nginx), "app_depth") == 3, "the gauge to vanish")
        check_order(samples, scrape(nginx))

        # the type of a metric stays until nginx is started again
        nginx.write_app(app.replace("[1, 10]", "[1, 20]"))
        nginx.reload()
        assert nginx.get("/count").ok
        late = scrape(nginx)
        check_order(samples, late)
        assert value(late, "app_words_total", **language) == 2.5 * (calls + 1)
        assert value(late, "app_sizes_count") == 2 * calls
        assert 'metric "app_sizes" is not counted' in nginx.log()
        assert value(late, "webtorch_model_loss", model="line") == 3
