"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cells = data.cells || { columns: [], places: [], phases: [], rows: [] };
  const choice = { place: cells.places[0] || "", phase: cells.phases[0] || "", precision: "all", measure: "latency", traced: (data.traced || [["", ""]])[0]?.[1] || "" };
  let selected = "";
  const views = new Map(); // by figure, what draws it
  const own = (from, name) => (from && Object.hasOwn(from, name) ? from[name] : undefined); // a variant may be called constructor
  const make = (tag, properties = {}, ...inside) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...inside);
    return made;
  };

  // ---- charts: each is drawn when it first comes near the screen, or when there is nothing else to do
  // named and not looked up, so that paper and the dark have their own without another drawing
  const [ink, quiet, line] = ["--ink", "--quiet", "--line"].map((name) => `var(${name})`);
  const theme = () => {
    const font = "system-ui, 'DejaVu Sans', sans-serif";
    return {
      background: "transparent", font, view: { stroke: null },
      axis: { labelColor: ink, titleColor: quiet, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 11.5,
        titleFontSize: 11.5, titleFontWeight: "normal" },
      legend: { labelColor: ink, titleColor: quiet, labelFontSize: 11.5, titleFontSize: 11.5, titleFontWeight: "normal", symbolStrokeColor: quiet, symbolBaseFillColor: quiet, symbolBaseStrokeColor: quiet },
      header: { labelColor: ink, titleColor: quiet, labelFontSize: 12 }, text: { color: ink, fontSize: 11 },
      rule: { color: ink }, title: { color: ink },
    };
  };
  const options = () => ({
    ast: true, actions: false, renderer: "svg", config: theme(), tooltip: { theme: dark.matches ? "dark" : "light" },
    // rows have a height of their own, which the library then says at each chart that is as wide as the page
    logger: vega.logger(vega.Warn, "warn", (method, level, words) => { if (!String(words[0]).includes('Dropping "fit-y"')) console[method](...words); }),
  });
  const narrow = (place) => place.clientWidth < 560;
  const draw = async (place) => {
    const name = place.dataset.figure, spec = data.figures[name];
    if (!window.vegaEmbed || !spec || views.has(name)) return;
    views.set(name, null);
    try {
      const made = await vegaEmbed(place, spec, options());
      made.view.addEventListener("click", (_, item) => {
        const found = item && item.datum;
        if (found && found.variant) choose(found.variant);
      });
      views.set(name, made);
      tell(made.view, place);
    } catch (error) {
      place.replaceChildren(make("p", { className: "note", textContent: `This chart could not be drawn: ${error.message}` }));
      console.error(error);
    }
  };
  const tell = (view, place) => {
    const wanted = { selected, precision: choice.precision, narrow: narrow(place), ink };
    for (const [signal, value] of Object.entries(wanted)) {
      try { view.signal(signal, value); } catch { /* a chart that has no such parameter */ }
    }
    return view.runAsync();
  };
  const tellAll = () => views.forEach((made, name) => made && tell(made.view, place_of(name)));
  const place_of = (name) => document.querySelector(`[data-figure="${CSS.escape(name)}"]`);
  const near = new IntersectionObserver(
    (found) => found.forEach((one) => { if (one.isIntersecting) { near.unobserve(one.target); draw(one.target); } }),
    { rootMargin: "600px" },
  );
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const again = () => {
    views.forEach((made) => made && made.finalize());
    views.clear();
    document.querySelectorAll("[data-figure]").forEach((place) => { near.unobserve(place); near.observe(place); });
  };
  dark.addEventListener("change", again);
  const visible = () => [...document.querySelectorAll("figure:not([hidden]) [data-figure]")];
  addEventListener("beforeprint", () => visible().forEach(draw));
  // paper does not wait for what is drawn only when it is asked for
  const idle = window.requestIdleCallback || ((then) => setTimeout(then, 200));
  const rest = async () => {
    const place = visible().find((one) => data.figures[one.dataset.figure] && !views.has(one.dataset.figure));
    if (!place || !window.vegaEmbed) return;
    await draw(place);
    idle(rest);
  };
  addEventListener("load", () => idle(rest));
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; tellAll(); } });

  // ---- choices
  const shows = (when) => Object.entries(when).every(([name, value]) => choice[name] === undefined || choice[name] === value);
  const apply = () => {
    document.querySelectorAll("[data-when]").forEach((part) => { part.hidden = !shows(JSON.parse(part.dataset.when)); });
    document.querySelectorAll("[data-figure]").forEach((place) => { near.unobserve(place); near.observe(place); });
    tables.forEach((table) => table.fill());
    tellAll();
    if (document.readyState === "complete") idle(rest);
  };
  document.querySelectorAll("[data-choice]").forEach((control) => {
    control.addEventListener("change", (event) => {
      const name = control.dataset.choice;
      choice[name] = event.target.value;
      document.querySelectorAll(`[data-choice="${name}"]`).forEach((other) => {
        if (other.tagName === "SELECT") other.value = choice[name];
        else other.querySelectorAll("input").forEach((input) => { input.checked = input.value === choice[name]; });
      });
      apply();
    });
  });
  document.querySelectorAll(".controls").forEach((controls) => { controls.hidden = false; });

  // ---- one variant, everywhere
  const bar = document.getElementById("selection");
  const show_trace_of = (name) => {
    const step = (data.traced || []).find(([variant]) => variant === name), select = document.querySelector('select[data-choice="traced"]');
    if (!step || !select || choice.traced.startsWith(`${name} · `)) return;
    select.value = choice.traced = step[1];
    apply();
  };
  const choose = (name) => {
    selected = selected === name ? "" : name;
    bar.hidden = !selected;
    document.getElementById("selected-name").textContent = selected;
    document.querySelectorAll("tr[data-variant]").forEach((row) => row.classList.toggle("chosen", row.dataset.variant.split("\n").includes(selected)));
    show_trace_of(selected);
    tellAll();
  };
  const more = document.getElementById("selection-more");
  let came_from = null; // the button that chose the variant, without a mouse
  const clear = () => {
    const inside = bar.contains(document.activeElement);
    choose(selected);
    if (inside && came_from && came_from.isConnected) came_from.focus();
  };
  document.getElementById("selection-none").addEventListener("click", clear);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && selected && !dialog.open) clear(); });
  more.addEventListener("click", () => known(selected));
  const dialog = document.getElementById("details");
  const open = (title, ...inside) => {
    document.getElementById("details-title").textContent = title;
    document.getElementById("details-body").replaceChildren(...inside);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };
  const pairs = (entries) => make("dl", {}, ...entries.filter(([, value]) => value).flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", {}, value)]));
  const text_of = (field) => (Array.isArray(field) ? field[1] : field);
  const MOST_NAMED = 8; // series of samples that a legend tells apart
  const known = (name) => {
    const parts = [];
    for (const row of cells.rows) {
      const fields = row.slice(3);
      if (text_of(fields[0]) !== name) continue;
      parts.push(make("h3", { textContent: `${cells.places[row[0]]} · ${cells.phases[row[1]]}` }));
      parts.push(pairs(cells.columns.slice(1).map((column, at) => [column.title, text_of(fields[at + 1])])));
      if (parts.length > 16) break;
    }
    const findings = Object.entries(own(data.findings, name) || {}).filter(([, finding]) => finding.verdict !== "holds");
    if (findings.length) parts.push(make("h3", { textContent: "What was found against its masking" }), ...findings.map(([property, finding]) => about_finding(name, property, finding)));
    const samples = own(data.samples, name) || [];
    const here = samples.filter((one) => (one.place || choice.place) === choice.place && (one.phase || choice.phase) === choice.phase);
    if (here.length && window.vegaEmbed) {
      const chart = make("div", { className: "plot" });
      parts.unshift(make("h3", { textContent: ["Raw samples by round", choice.place, choice.phase].filter(Boolean).join(" · ") }), chart);
      const values = here.flatMap((one) => one.samples.map((value, at) => ({ value, round: one.rounds[at], task: one.task })));
      const color = here.length > MOST_NAMED ? { ...data.raw.encoding.color, legend: null } : data.raw.encoding.color;
      if (here.length > MOST_NAMED) parts.splice(1, 0, make("p", { className: "note", textContent: `${here.length} series; on hovering, whose a sample is.` }));
      const spec = { ...data.raw, data: { values }, encoding: { ...data.raw.encoding, color } };
      setTimeout(() => vegaEmbed(chart, spec, options()), 0);
    }
    open(name, ...parts);
  };
  const about_finding = (variant, property, finding) => {
    const rows = (finding.failures || []).map((row) => make("tr", {}, ...row.map((cell) => make("td", { textContent: cell }))));
    const parts = [pairs([
      ["property", `${property}: ${own(data.statements, property) || finding.statement || ""}`],
      ["verdict", finding.verdict], ["what moved", finding.said], ["by how much", finding.value], ["allowed", finding.limit],
      ["cause", finding.cause], ["its author's defect", finding.defects], ["what to change", finding.remedy],
      ["makes it again", finding.command && make("code", { textContent: finding.command })],
    ])];
    if (rows.length > 1) parts.push(make("details", {}, make("summary", { textContent: `${rows.length} ways in which it shows` }), make("table", {}, make("tbody", {}, ...rows))));
    return make("div", {}, ...parts);
  };
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("[data-property]");
    if (!cell) return;
    const names = cell.closest("[data-variant]").dataset.variant.split("\n"), property = cell.dataset.property;
    const parts = names.map((name) => {
      const finding = own(own(data.findings, name), property) || { verdict: cell.dataset.verdict };
      return make("div", {}, make("h3", {}, make("code", { textContent: name })), about_finding(name, property, finding));
    });
    open(`${property} ${own(data.properties, property) || ""}`, ...parts);
  });
  document.addEventListener("click", (event) => {
    const name = event.target.closest("[data-choose]");
    if (!name) return;
    choose(name.dataset.choose);
    came_from = event.detail === 0 && selected ? name : null;
    if (came_from) more.focus(); // without a mouse it would be as far as the end of the page
  });
  // one stop of the Tab key in a matrix of hundreds of cells, and arrows from there
  document.querySelectorAll(".matrix table").forEach((matrix) => {
    const cells_of = (row) => [...row.querySelectorAll(".v")].filter((cell) => cell.checkVisibility());
    const stop = (cell) => {
      matrix.querySelectorAll(".v").forEach((other) => { other.tabIndex = -1; });
      if (cell) cell.tabIndex = 0;
    };
    stop([...matrix.querySelectorAll(".v")].find((cell) => cell.checkVisibility()));
    matrix.addEventListener("focusin", (event) => { if (event.target.matches(".v")) stop(event.target); });
    matrix.addEventListener("keydown", (event) => {
      const [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] || [0, 0];
      if (!(down || right) || !event.target.matches(".v")) return;
      event.preventDefault();
      const rows = [...matrix.tBodies[0].rows].map(cells_of).filter((cells) => cells.length), row = rows.findIndex((cells) => cells.includes(event.target));
      const at = rows[row].indexOf(event.target), next = rows[row + down];
      const column = event.target.parentElement.cellIndex;
      const cell = down ? next && (next.find((other) => other.parentElement.cellIndex >= column) || next[next.length - 1]) : rows[row][at + right];
      if (cell) cell.focus();
    });
  });

  // ---- the table: sorted, filtered, with the columns that are wanted
  const MOST_ROWS = 200, MOST_CARDS = 12;
  const tables = [];
  const table = (root) => {
    let by = -1, down = false, all = false, filter = "";
    const shown = new Set(cells.columns.flatMap((column, at) => (column.shown ? [at] : [])));
    const body = make("tbody"), head = make("tr"), more = make("p", { className: "more" });
    const count = make("span", { className: "note" });
    const search = make("input", { type: "search", placeholder: "filter: bf16, holds …", ariaLabel: "Filter the rows" });
    const boxes = cells.columns.map((column, at) => {
      const box = make("input", { type: "checkbox", checked: shown.has(at), disabled: at === 0 });
      box.addEventListener("change", () => { box.checked ? shown.add(at) : shown.delete(at); fill(); });
      return make("label", {}, box, ` ${column.title}`);
    });
    const copy = make("button", { type: "button", textContent: "Copy as CSV" });
    copy.addEventListener("click", async () => {
      const formula = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
      const quoted = (text) => `"${formula(String(text)).replaceAll('"', '""')}"`;
      const columns = [...shown].sort((a, b) => a - b);
      const lines = [columns.map((at) => quoted(cells.columns[at].title)), ...rows().map((row) => columns.map((at) => { const field = row[at + 3]; return Array.isArray(field) ? field[0] ?? "" : quoted(field); }))];
      const csv = lines.map((line) => line.join(",")).join("\n");
      let done = true;
      try { await navigator.clipboard.writeText(csv); } catch {
        const area = make("textarea", { value: csv });
        document.body.append(area); area.select(); done = document.execCommand("copy"); area.remove();
      }
      copy.textContent = done ? "Copied, numbers in base units" : "The browser does not allow it";
      setTimeout(() => { copy.textContent = "Copy as CSV"; }, 2500);
    });
    const rows = () => {
      const place = cells.places.indexOf(choice.place), phase = cells.phases.indexOf(choice.phase), words = filter.toLowerCase().split(/\s+/).filter(Boolean);
      const found = cells.rows.filter((row) => row[0] === place && row[1] === phase && (choice.precision === "all" || row[2] === choice.precision)
        && words.every((word) => row.slice(3).some((field) => text_of(field).toLowerCase().includes(word))));
      if (by < 0) return found;
      const key = (row) => { const field = row[by + 3]; return Array.isArray(field) ? field[0] : field; };
      return found.sort((a, b) => {
        const [one, other] = [key(a), key(b)];
        if (one === null || other === null) return (one === null) - (other === null); // what has no number comes last
        return (typeof one === "number" ? one - other : one.localeCompare(other)) * (down ? -1 : 1);
      });
    };
    const fill = () => {
      const columns = [...shown].sort((a, b) => a - b), found = rows(), most = innerWidth > 640 ? MOST_ROWS : MOST_CARDS;
      head.replaceChildren(...columns.map((at) => {
        const button = make("button", { type: "button", textContent: cells.columns[at].title + (at === by ? (down ? " ▼" : " ▲") : "") });
        button.addEventListener("click", () => { down = at === by ? !down : false; by = at; fill(); head.children[columns.indexOf(at)].firstChild.focus(); });
        const cell = make("th", { scope: "col", className: cells.columns[at].number ? "number" : "" }, button);
        cell.setAttribute("aria-sort", at === by ? (down ? "descending" : "ascending") : "none");
        return cell;
      }));
      body.replaceChildren(...found.slice(0, all ? undefined : most).map((row) => {
        const name = text_of(row[3]);
        const line = make("tr", { className: name === selected ? "chosen" : "" }, ...columns.map((at) => {
          if (at === 0) {
            const button = make("button", { type: "button", textContent: name });
            button.dataset.choose = name;
            const cell = make("th", { scope: "row" }, button);
            cell.style.setProperty("--letters", name.length);
            return cell;
          }
          const text = text_of(row[at + 3]);
          const cell = make("td", { className: cells.columns[at].number ? (text.length > 34 ? "words" : "number") : text.length > 30 ? "words" : "", textContent: text });
          cell.dataset.label = cells.columns[at].title;
          if (text === "" || text === "–") cell.classList.add("nothing");
          return cell;
        }));
        line.dataset.variant = name;
        return line;
      }));
      count.textContent = `${found.length} of ${cells.rows.length} rows`;
      more.replaceChildren();
      if (!all && found.length > most) {
        const button = make("button", { type: "button", textContent: `Show all ${found.length} rows` });
        button.addEventListener("click", () => { all = true; fill(); });
        more.append(button);
      }
    };
    search.addEventListener("input", () => { filter = search.value; fill(); });
    const region = make("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: "Table of variants" }, make("table", {}, make("thead", {}, head), body));
    root.replaceChildren(make("div", { className: "tools" }, search, make("details", {}, make("summary", { textContent: "Columns" }), make("div", {}, ...boxes)), copy, count), region, more);
    tables.push({ fill });
  };
  document.querySelectorAll('[data-table="cells"]').forEach(table);
  apply();
})();
