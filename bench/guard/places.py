"""Normal paths, names of fields and User-Agents."""

import base64
import random
from urllib.parse import quote

from normal import fake, prose, slug, token, word

AGENTS = (
    *("python-requests", "aiohttp", "httpx", "urllib3", "Python-urllib"),
    *("xmlrpclib.py", "suds", "zeep", "boto3", "Boto"),
    *("botocore", "axios", "node-fetch", "got", "undici"),
    *("superagent", "okhttp", "Java", "Apache-HttpClient", "Jersey"),
    *("Dalvik", "CFNetwork", "Go-http-client", "resty", "curl"),
    *("libcurl", "Wget", "lwp-request", "libwww-perl", "Ruby"),
    *("Faraday", "Typhoeus", "rest-client", "HTTPie", "PostmanRuntime"),
    *("insomnia", "GuzzleHttp", "php-soap", "Drupal", "WordPress"),
    *("Joomla", "aws-sdk-go", "aws-cli", "azsdk-net-Storage", "google-api-python-client"),
    *("gcloud", "Terraform", "kubectl", "docker", "git"),
    *("GitHub-Hookshot", "Slackbot", "Twitterbot", "Googlebot", "bingbot"),
    *("facebookexternalhit", "Discordbot", "Prometheus", "Grafana", "ELB-HealthChecker"),
    *("kube-probe", "Datadog", "UptimeRobot", "Zabbix", "k6"),
    *("JMeter", "Microsoft-WebDAV-MiniRedir", "DAVx5", "Thunderbird", "Outlook"),
    *("iOS", "Android", "Darwin", "Electron", "Flutter"),
    *("Dart", "Alamofire", "Unity", "Steam", "Spotify"),
    *("VLC", "Kodi", "Roku", "AppleCoreMedia", "feedparser"),
    *("Feedly", "NetNewsWire"),
)


def user_agent(rng: random.Random) -> str:
    made = fake(rng, "en_US")
    a = rng.choice(AGENTS) if rng.random() < 0.6 else word(rng) + rng.choice(["", "bot", "-sdk"])
    b, version = word(rng), ".".join(str(rng.randint(0, 30)) for _ in range(rng.randint(1, 3)))
    return rng.choice(
        [
            made.user_agent(),
            made.user_agent(),
            f"{a}/{version}",
            a,
            f"{a} {version}",
            f"{a}/{version} (by www.{b}.com)",
            f"{a}/{version} (+https://{b}.com/{word(rng)}; {word(rng)})",
            f"{a}/{version} {b}/{version}",
            f"{a}/{version} ({b}; {word(rng)} {version}; en_US)",
            f"Mozilla/5.0 (compatible; {a}/{version}; +http://{b}.com/{word(rng)}.html)",
            f"{a}-v{version} {b}/{version} (linux; x86_64) {word(rng)}#{word(rng)} md/{word(rng)}",
            f"{a} {b} <{b}@{word(rng)}.org>",
            f"{a} (https://{b}.org)",
            f"{a}/{version} (https://{b}.{word(rng)}.io)",
            f"{a.title()}Lib ({b})",
        ]
    )


def key(rng: random.Random) -> str:
    """Return a name of a field that is no identifier."""
    a, b = word(rng), word(rng)
    return rng.choice(
        [
            *(f"{a}_({b})", f"{a} {b}", f"${a}", f"@{a}", f"{a}/{b}", f"{a}#{b}", f"{a}%"),
            *(f"{a}'s {b}", f"{a}, {b}", f"{a}?", f"{a}({b})", f"{a}$", f"{a}|{b}", f"{a}+{b}"),
            *(f"<{a}>", f"{a}@{b}.com", f"{a}*", f"{{{a}}}", f"http://{a}.org/{b}", f"/{a}/{b}"),
            fake(rng).word(),
        ]
    )


PATH_WORDS = [
    *("configure", "database", "databases", "settings", "maintenance", "setup", "access", "ssh"),
    *("keys", "secrets", "replicate", "engine", "query", "write", "select", "table", "schema"),
    *("execute", "run", "jobs", "tasks", "events", "hooks", "repos", "orgs", "teams", "members"),
    *("projects", "branches", "commits", "releases", "tags", "labels", "groups", "roles"),
    *("policies", "permissions", "tokens", "sessions", "password", "passwd", "register", "verify"),
    *("manage", "internal", "private", "v3", "v1beta1", "proxy", "socket", "docker", "containers"),
    *("namespaces", "pods", "volumes", "networks", "instances", "zones", "regions", "buckets"),
    *("objects", "models", "infer", "predict", "chat", "completions", "embeddings", "batch"),
    *(
        "xmlrpc",
        "jsonrpc",
        "soap",
        "webdav",
        "cgi",
        "shard",
        "repair",
        "shards",
        "invoke",
        "converse",
    ),
    *("filter", "include", "exec", "eval", "template", "render", "preview", "manifest", "heads"),
    "index",
    "api",
    "v1",
    "v2",
    "users",
    "user",
    "admin",
    "login",
    "logout",
    "account",
    "settings",
    "profile",
    "search",
    "products",
    "items",
    "cart",
    "checkout",
    "orders",
    "blog",
    "posts",
    "news",
    "archive",
    "static",
    "assets",
    "images",
    "img",
    "css",
    "js",
    "fonts",
    "media",
    "upload",
    "uploads",
    "files",
    "download",
    "docs",
    "help",
    "about",
    "contact",
    "feed",
    "rss",
    "sitemap",
    "robots",
    "graphql",
    "rest",
    "soap",
    "rpc",
    "service",
    "services",
    "auth",
    "oauth",
    "token",
    "callback",
    "webhook",
    "status",
    "health",
    "metrics",
    "version",
    "main",
    "home",
    "default",
    "page",
    "view",
    "edit",
    "new",
    "create",
    "update",
    "delete",
    "list",
    "show",
    "category",
    "tag",
    "wiki",
    "forum",
    "topic",
    "thread",
    "message",
    "inbox",
    "report",
    "reports",
    "export",
    "import",
    "config",
    "data",
    "cmd",
    "exec",
    "test",
    "debug",
    "demo",
    "cgi-bin",
    "bin",
    "app",
    "web",
    "public",
    "content",
    "includes",
    "modules",
    "plugins",
    "themes",
    "cache",
    "tmp",
    "temp",
    "log",
    "logs",
    "backup",
    "old",
    "dev",
    "env",
    "git",
    "info",
    "server",
    "client",
    "system",
    "shell",
    "console",
    "script",
    "scripts",
]
ENDINGS = (
    *("", "", "", "", "/", ".php", ".cgi", ".asp", ".aspx", ".jsp", ".do", ".action", ".html"),
    *(".json", ".xml", ".js", ".css", ".png", ".txt", ".pl", ".py", ".svc", ".ashx", ".cfm"),
    *(".pdf", ".zip", ".gz", ".log", ".md", ".yml", ".ini", ".conf", ".sh", ".exe", ".dll"),
)


def path(rng: random.Random) -> str:
    """Return a path of an application."""
    parts = []
    for _ in range(rng.randint(1, 5)):
        part = rng.choice(PATH_WORDS) if rng.random() < 0.6 else word(rng)
        share = rng.random()
        if share > 0.85:
            part = quote(slug(rng), safe="-_.+:@()$=*[]")
        if share < 0.1:
            part = str(rng.randint(1, 99999))
        elif share < 0.15:
            part = token(rng)
        elif share < 0.2:
            part = part + rng.choice("-_.+~,:@!'()$&=*") + word(rng)
        elif share < 0.21:
            part = base64.urlsafe_b64encode(rng.randbytes(rng.randint(9, 60))).decode().rstrip("=")
        elif share < 0.23:
            part = "." + rng.choice([word(rng), "well-known", "api", "a", "assets", "auth"])
        elif share < 0.25:
            part = quote(
                rng.choice([prose(rng)[:20], f"<{word(rng).upper()}>", f"{{{word(rng)}}}"])
            )
        elif share < 0.27:
            part += f";jsessionid={token(rng)}"
        parts.append(part)
    return "/" + "/".join(parts) + rng.choice(ENDINGS)
