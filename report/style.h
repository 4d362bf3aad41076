// SPDX-License-Identifier: Apache-2.0
// The style of the status section. It stands in the middle of mod_status's page (HTML 3.2, quirks
// mode, no style of its own), so each class starts with linger-, the section brings its own
// background, and tables say again what quirks mode doesn't let them inherit. Where a site's
// Content-Security-Policy forbids inline style, what is left is plain HTML with the SVG's own
// colours. Pure.
#pragma once

namespace lingerd {

inline constexpr char kStyle[] = R"(<style>
.linger{--ink:#1d2430;--soft:#5d6778;--card:#f6f7f9;--tile:#fff;--line:#dde1e7;--good:#18794e;
--warn:#8f5b00;--bad:#c02434;--queue:#2f6bd8;--hand:#0b8f72;--fall:#d4541a;--gap:#e9ecf0;
color-scheme:light dark;box-sizing:border-box;max-width:62rem;margin:1rem 0;padding:1rem;
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:10px}
@media (prefers-color-scheme:dark){.linger{--ink:#e6e9ef;--soft:#9aa4b5;--card:#14181f;--tile:#1c222b;
--line:#303845;--good:#4cc38a;--warn:#f1b44c;--bad:#ff7b85;--queue:#6ea3ff;--hand:#3dcfae;
--fall:#ff9356;--gap:#272e39}}
.linger *{box-sizing:border-box}
.linger h2,.linger h3,.linger p,.linger figure,.linger table{margin:0}
.linger h2{font-size:1.3rem;line-height:1.2}
.linger h3,.linger caption,.linger figcaption{font-size:.87rem;font-weight:600;color:var(--soft);
text-align:left}
.linger small{font-size:.8rem;color:var(--soft);overflow-wrap:anywhere}
.linger-head{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .8rem;margin-bottom:.9rem}
.linger-head small{flex-basis:100%}
.linger-state{padding:.15rem .7rem;border-radius:1rem;border:1px solid;background:var(--tile);
font-size:.9rem;overflow-wrap:anywhere}
.linger-state b::before{content:"\25CF\A0"}
.linger-up .linger-state{color:var(--good)}
.linger-busy .linger-state{color:var(--warn)}
.linger-down .linger-state{color:var(--bad)}
.linger .linger-note{color:var(--fall)}
.linger-down .linger-state{border-radius:.6rem}
.linger-tiles,.linger-pair{display:grid;gap:.8rem;margin-top:.8rem;
grid-template-columns:repeat(auto-fit,minmax(min(100%,9.5rem),1fr))}
.linger-pair{grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}
.linger-tiles>div,.linger-pair>*{padding:.8rem .9rem;background:var(--tile);
border:1px solid var(--line);border-radius:8px;min-width:0}
.linger-number{font-size:1.6rem;line-height:1.25;font-weight:600;font-variant-numeric:tabular-nums;
overflow-wrap:anywhere}
.linger-tiles svg{display:block;width:100%;height:8px;margin:.3rem 0;border-radius:4px}
.linger-track{fill:var(--gap)}
.linger-fill{fill:var(--queue)}
.linger-near{fill:var(--fall)}
.linger-mark{fill:var(--soft)}
.linger figcaption{display:flex;flex-wrap:wrap;gap:0 1rem;margin-bottom:.6rem}
.linger figcaption b{flex-grow:1}
.linger-key{font-weight:400;font-variant-numeric:tabular-nums;white-space:nowrap}
.linger-key::before{content:"";display:inline-block;width:.65em;height:.65em;margin-right:.4em;
border-radius:2px;background:currentColor}
.linger-q{color:var(--queue)}
.linger-h{color:var(--hand)}
.linger-f{color:var(--fall)}
.linger-g{color:var(--gap)}
.linger-key span{color:var(--ink)}
.linger-plot{position:relative}
.linger-plot svg{display:block;width:100%;height:9rem}
.linger-plot small{position:absolute;left:0;top:0;padding:0 .3em;background:var(--tile);
border-radius:3px;opacity:.9}
.linger-axis{display:flex;justify-content:space-between}
.linger-grid{stroke:var(--line)}
.linger-gap{fill:var(--gap)}
.linger-q-line{stroke:var(--queue)}
.linger-q-area{fill:var(--queue)}
.linger-h-line{stroke:var(--hand)}
.linger-h-area{fill:var(--hand)}
.linger-f-line{stroke:var(--fall)}
.linger-f-area{fill:var(--fall)}
.linger table{width:100%;border-collapse:collapse;font:inherit;color:inherit}
.linger caption{padding-bottom:.4rem}
.linger th,.linger td{padding:.22rem 0;border-top:1px solid var(--line);font-weight:400;text-align:left;
vertical-align:baseline}
.linger td{padding-left:.6rem;text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.linger th{overflow-wrap:anywhere}
.linger td+td{width:3.7rem;color:var(--soft)}
.linger tfoot th,.linger tfoot td:nth-child(2){font-weight:600}
.linger-in th{padding-left:1.1rem}
.linger-look th,.linger-look td{color:var(--fall)}
.linger table+small{display:block;padding-top:.5rem;border-top:1px solid var(--line)}
@media (max-width:30rem){.linger{padding:.7rem}.linger-tiles>div,.linger-pair>*{padding:.7rem}
.linger-number{font-size:1.3rem}}
</style>
)";

// For the page of its own, around the section.
inline constexpr char kPageStyle[] = R"(<style>
:root{color-scheme:light dark}
body{margin:0 auto;padding:1rem;max-width:64rem;background:#fff;
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;color:#1d2430}
a{color:#2458b8}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.87rem}
@media (prefers-color-scheme:dark){body{background:#0d1015;color:#e6e9ef}a{color:#8db4ff}}
@media (max-width:30rem){body{padding:.5rem}}
</style>
)";

}  // namespace lingerd
