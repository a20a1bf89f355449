"""The look of the page. Nothing in it is loaded from elsewhere, and it needs no script."""

from __future__ import annotations

from string import Template

__all__ = ["PAGE", "STYLE"]

PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$introduction</p>
<div class="tables">$tables</div>
$filter
</header>
<main>
$questions
</main>
<footer>
<p>$results</p>
$unreadable
$credits
<p>Made with sklearn_psp.</p>
</footer>
</body>
</html>
""")

STYLE = """\
:root {
  color-scheme: light dark;
  --ground: #f6f6f4; --card: #ffffff; --ink: #1d1f21; --quiet: #63676c; --line: #dddeda; --well: #ecece8;
  --right: #13713f; --wrong: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15171a; --card: #1f2226; --ink: #e9eaec; --quiet: #a0a5ab; --line: #33373c; --well: #282c31;
    --right: #55c98a; --wrong: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem clamp(.75rem, 3vw, 2.5rem); max-width: 110rem;
  background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1rem; margin: 0 0 .4rem; }
p { margin: .5rem 0; max-width: 75ch; }
a { color: inherit; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; margin: 1rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; font-weight: 500; }
thead th { color: var(--quiet); font-weight: 500; }
main {
  display: grid; gap: 1rem; margin: 1.25rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 32rem), 1fr));
}
.question {
  display: grid; grid-template-columns: minmax(6.5rem, 26%) 1fr; gap: 1rem; padding: .9rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
}
.question ol {
  list-style: none; margin: 0; padding: 0; display: grid; gap: .6rem; align-content: start;
  grid-template-columns: repeat(auto-fill, minmax(4rem, 1fr));
}
figure { margin: 0; position: relative; min-width: 0; }
.image {
  aspect-ratio: 1; border-radius: .35rem; background: var(--well) center / contain no-repeat;
  print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
figcaption { font-size: .75rem; line-height: 1.3; margin-top: .25rem; color: var(--quiet); }
.query figcaption { font-size: .85rem; color: var(--ink); font-weight: 500; }
.name { display: block; overflow-wrap: anywhere; hyphens: auto; }
.distance { font-variant-numeric: tabular-nums; color: var(--ink); }
.mark {
  position: absolute; top: .25rem; right: .25rem; width: 1.25rem; height: 1.25rem; border-radius: 50%;
  background: var(--card); font: 700 .8rem/1.25rem system-ui, sans-serif; text-align: center;
}
.right { background: var(--right); color: var(--card); }
.wrong { color: var(--quiet); opacity: .8; }
.wrong-first li:first-child .mark { background: var(--wrong); color: var(--card); opacity: 1; }
.wrong-first { border-color: var(--wrong); }
body:has(#wrong-only:checked) .question:not(.wrong-first) { display: none; }
footer { font-size: .85rem; color: var(--quiet); border-top: 1px solid var(--line); padding-top: 1rem; }
.list ul { margin: 0 0 1rem; padding-left: 1.1rem; overflow-wrap: anywhere; }
.list b { color: var(--ink); font-weight: 500; }
@media (max-width: 30rem) {
  .question { grid-template-columns: 1fr; }
  .query { max-width: 11rem; }
}
@media print { .question { break-inside: avoid; } }
"""
