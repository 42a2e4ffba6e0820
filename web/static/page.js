/* What the pages do beyond their forms; without it they work too. */
(() => {
  "use strict";
  const root = document.documentElement, lang = root.lang || "ru";
  const one = (what, within = document) => within.querySelector(what);
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  root.classList.add("scripted");

  // Times: in the reader's zone, and "in 4 minutes" kept true.
  const relative = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
  const format = (options) => new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", ...options });
  const day = { day: "numeric", month: "short" };
  const formats = {
    short: format(day), old: format({ ...day, year: "numeric" }), full: format({ ...day, year: "numeric", second: "2-digit" }),
    mail: format({ day: "numeric", month: "long", year: "numeric", timeZoneName: "short" }),
    clock: format({ second: "2-digit" }), long: format({ ...day, second: "2-digit" }),
  };
  const ago = (moment) => {
    const seconds = Math.round((moment - Date.now()) / 1000), size = Math.abs(seconds);
    if (size < 60) return relative.format(seconds, "second");
    if (size < 5400) return relative.format(Math.round(seconds / 60), "minute");
    if (size < 129600) return relative.format(Math.round(seconds / 3600), "hour");
    return relative.format(Math.round(seconds / 86400), "day");
  };
  const tell = (within) => all("time[datetime]", within).forEach((node) => {
    const moment = new Date(node.dateTime), how = node.dataset.how || "short";
    const old = Math.abs(Date.now() - moment) > 300 * 86400000;
    const exact = (formats[how] && !(old && how === "short") ? formats[how] : old ? formats.old : formats.short).format(moment);
    const text = how === "relative" ? ago(moment) : how === "both" ? `${exact} (${ago(moment)})` : exact;
    if (node.textContent !== text) node.textContent = text;
    if (!node.title) node.title = formats.full.format(moment);
  });
  setInterval(() => tell(document), 5000);

  // Charts: data and names in attributes, colours from the style sheet.
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const unit = (name) => new Intl.NumberFormat(lang, { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: 1 });
  const units = [[3600, unit("hour")], [60, unit("minute")], [1, unit("second")]];
  const span = (seconds) => { const [size, of] = units.find(([least]) => seconds >= least) || units[2]; return of.format(seconds / size); };
  const counts = [1, 2, 5].flatMap((one) => [1, 10, 100, 1e3, 1e4, 1e5, 1e6].map((ten) => one * ten)).sort((a, b) => a - b);
  const spans = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 36000, 86400, 432000, 864000];
  const draw = (node) => {
    const names = JSON.parse(node.dataset.names), colours = node.dataset.colours.split(" ");
    const totals = JSON.parse(node.dataset.totals);  // of the whole span, until one points at a step of it
    const data = JSON.parse(node.dataset.series), bars = node.dataset.kind === "bars";
    const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line") }, font: "12px system-ui" };
    const whole = data[0].length > 1 && data[0][data[0].length - 1] - data[0][0] > 2 * 86400;
    const clock = (seconds) => (whole ? new Intl.DateTimeFormat(lang, day) : formats.clockless).format(new Date(seconds * 1000));
    const told = bars ? (count) => count.toLocaleString(lang) : span;
    if (bars) data[1] = data[1].map((count, place) => count + data[2][place]);  // stacked: failed in front of the sum
    new uPlot({
      width: node.clientWidth, height: 205,
      cursor: { y: false }, legend: { live: true },
      scales: { y: { range: (_, low, high) => [0, Math.max(high || 0, 1) * 1.1] } },
      axes: [{ ...axis, space: 70, values: (_, marks) => marks.map(clock) }, { ...axis, size: 62, incrs: bars ? counts : spans, values: (_, marks) => marks.map(told) }],
      series: [{ label: node.dataset.time, value: (_, at) => at ? formats.short.format(new Date(at * 1000)) : totals[0] }].concat(names.map((label, place) => ({
        label, stroke: colour(colours[place]), fill: bars ? colour(colours[place]) : undefined, width: bars ? 0 : 2, spanGaps: true,
        points: { show: !bars, size: 5 }, paths: bars ? uPlot.paths.bars({ size: [0.7, 40] }) : undefined,
        value: (plot, value, _, at) => at === null ? totals[place + 1] : value === null ? "–" : told(bars && !place ? value - plot.data[2][at] : value),
      }))),
    }, data, node);
  };
  formats.clockless = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit" });
  const charts = (within) => { if (window.uPlot) all(".chart:empty", within).forEach(draw); };
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    all(".chart").forEach((node) => node.replaceChildren());
    charts(document);
  });

  // Rows chosen; with shift all in between.
  let last = null;
  const boxes = () => all('td.pick input[type="checkbox"]');
  const count = () => {
    const chosen = boxes().filter((box) => box.checked).length, bar = one(".bar");
    if (!bar) return;
    bar.classList.toggle("shown", chosen > 0);
    one("#chosen").textContent = chosen.toLocaleString(lang);
    all(".count").forEach((node) => { node.textContent = chosen.toLocaleString(lang); });
    all(".pausing").forEach((node) => { node.hidden = chosen === 0; });
    const every = one("#pick-all");
    every.checked = chosen > 0 && chosen === boxes().length;
    every.indeterminate = chosen > 0 && !every.checked;
  };
  document.addEventListener("click", (event) => {
    const box = event.target.closest('td.pick input'), every = event.target.closest("#pick-all");
    if (box) {
      const rows = boxes(), here = rows.indexOf(box), there = rows.indexOf(last);
      if (event.shiftKey && there >= 0) rows.slice(Math.min(here, there), Math.max(here, there) + 1).forEach((row) => { row.checked = box.checked; });
      last = box;
    }
    if (every) boxes().forEach((row) => { row.checked = every.checked; });
    if (event.target.closest("#unpick")) boxes().forEach((row) => { row.checked = false; });
    const copy = event.target.closest("[data-copy]");
    if (copy) copied(one(`#${copy.dataset.copy}`)).then(() => { copy.textContent = copy.dataset.done; }, () => {});
    const cancel = event.target.closest("[data-cancel]");
    if (cancel && one("#ask-bulk")) {
      event.preventDefault();
      const before = boxes().filter((row) => row.checked);
      boxes().forEach((row) => { row.checked = row.value === cancel.dataset.cancel; });
      ask(one("#ask-bulk"), () => { boxes().forEach((row) => { row.checked = before.includes(row); }); count(); });
    }
    const summary = event.target.closest(".ask > summary");
    if (summary) { event.preventDefault(); ask(summary.parentNode); }
    all(".me[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
    count();
  });
  // Enter would press the first row's Retry: not every browser minds that a disabled button stands before it.
  document.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches('input[form="bulk"]')) event.preventDefault(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") all(".me[open]").forEach((menu) => { menu.open = false; one("summary", menu).focus(); }); });

  // The text of a part of the page goes to the clipboard; where a browser gives none, it is at least selected.
  const copied = async (node) => {
    getSelection().selectAllChildren(node);
    await navigator.clipboard.writeText(node.innerText);
    getSelection().removeAllRanges();
  };

  // A question unfolds as a dialog.
  const ask = (details, after = () => {}) => {
    const body = details.lastElementChild, dialog = document.createElement("dialog"), close = document.createElement("button");
    const heading = one("h2", body);
    heading.id = "asked";
    dialog.setAttribute("aria-labelledby", "asked");
    close.type = "button"; close.className = "close"; close.textContent = "✕"; close.ariaLabel = document.body.dataset.close;
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => { details.open = false; details.append(body); heading.removeAttribute("id"); dialog.remove(); one("summary", details).focus(); after(); });
    dialog.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.matches("input")) { event.preventDefault(); one("button.primary", dialog).click(); } });
    dialog.append(close, body);
    document.body.append(dialog);
    details.open = false;
    dialog.showModal();
    (one('input[name="reason"]', dialog) || one("button.primary", dialog)).focus();
  };

  // Live, but not while somebody chooses, selects text, reads a chart or answers a question.
  const busy = () => document.hidden || one("dialog[open]") || !getSelection().isCollapsed || one(".chart:hover") || boxes().some((box) => box.checked) || one("#live details[open]")
    || (document.activeElement && document.activeElement.matches('#live :focus-visible:not([id]), #live input:not([type="checkbox"]), #live select'));
  const away = (is) => { one("#away").hidden = !is; };
  document.addEventListener("htmx:beforeRequest", (event) => { if (busy()) event.preventDefault(); });
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status === 200 && !event.detail.xhr.responseText.includes('id="live"')) location.reload();
    if (busy()) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterSwap", () => { away(false); start(document); });
  document.addEventListener("htmx:sendError", () => away(true));
  document.addEventListener("htmx:responseError", () => away(true));
  document.addEventListener("submit", (event) => { all("button", event.target).forEach((button) => { setTimeout(() => { button.disabled = true; }); }); });

  const start = (within) => {
    tell(within);
    charts(within);
    count();
    all(".scroll", within).forEach((node) => { if (node.scrollWidth > node.clientWidth) node.tabIndex = 0; });  // to be moved by keyboard
  };
  start(document);
  const current = one(".top nav [aria-current]");
  if (current) current.parentNode.scrollLeft = current.offsetLeft - 60;
  all("details.ask[open]").forEach(ask);
})();
