"""The look that all HTML pages of the project share, light and dark."""

BASE_STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --soft: #5c6676; --page: #f6f7f9; --card: #ffffff; --line: #dce0e6;
  --bar: #3b82c4; --good: #1a7f4b; --bad: #b3372c; --warn: #96690a; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ee; --soft: #9aa5b4; --page: #14181e; --card: #1d232b;
  --line: #343c48; --bar: #5b9fe0; --good: #5fc98f; --bad: #f0867c; --warn: #e0b04c; } }
* { box-sizing: border-box; }
body { background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 34px 0 10px; }
.soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 18px;
  overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: 4px 14px 4px 0; vertical-align: top; }
code { font-size: 13px; overflow-wrap: anywhere; }
"""
