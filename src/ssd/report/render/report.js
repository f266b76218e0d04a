"use strict";
// What a report does beyond being read: tables sort by their columns, and the code map shows what
// each model expects at a token. Without it the page reads the same.

const DURATION = /^(?:([\d.]+) h ?)?(?:([\d.]+) min ?)?(?:([\d.]+) s)?$/;

/** The number a cell begins with, in seconds for a duration; null where there is none. */
function leadingNumber(text) {
  const time = DURATION.exec(text);
  if (text && time) return 3600 * (time[1] || 0) + 60 * (time[2] || 0) + Number(time[3] || 0);
  const number = /^[-+]?\d+(\.\d+)?(e[-+]?\d+)?/i.exec(text.replace(/,(?=\d{3})/g, ""));
  return number && Number(number[0]);
}

/** Negative where cell `a` comes before `b`; cells without a value come last either way. */
function compareCells(a, b, direction) {
  if ((a === "-") !== (b === "-")) return a === "-" ? 1 : -1;
  const [first, second] = [leadingNumber(a), leadingNumber(b)];
  if (first !== null && second !== null && first !== second) return direction * (first - second);
  return direction * a.localeCompare(b, undefined, { numeric: true });
}

/** Column heads become buttons: ascending, descending, and the order the table came in. */
function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const next = { none: "ascending", ascending: "descending", descending: "none" };
  if (original.length < 3) return;
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const order = next[head.getAttribute("aria-sort")];
      for (const other of heads) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
      const text = (row) => row.cells[column].textContent.replace(/\s+/g, " ").trim();
      const direction = order === "ascending" ? 1 : -1;
      const rows = [...original];
      if (order !== "none") rows.sort((a, b) => compareCells(text(a), text(b), direction));
      body.append(...rows);
    });
  });
}

const VISIBLE = { " ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍" };

/** A token's text with white space as marks, and control characters as their codes. */
function visible(text) {
  const code = (one) => `<U+${one.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}>`;
  const shown = text.replace(/[\u0000-\u0020\u007f]/g, (one) => VISIBLE[one] || code(one));
  return shown || "(empty)";
}

/** A token's text as it is spoken. */
function spoken(text) {
  const names = { " ": "space", "\n": "new line", "\t": "tab" };
  const plain = text.trim();
  return plain || [...text].map((one) => names[one] || "white space").slice(0, 4).join(", ") || "empty";
}

/** A share in percent: two digits below ten, and never a zero that is none. */
function percent(share) {
  if (share === null) return "-";
  if (share > 0 && share < 5e-5) return "<0.01%";
  return `${(100 * share).toFixed(share < 0.0995 ? 2 : 1)}%`;
}

const nats = (value) => (value === null ? "-" : value.toFixed(3));
const signed = (value) => `${value < 0 ? "" : "+"}${value.toFixed(3)}`;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** `1.204 to 0.853 nats (-0.351)`, of the base model and the last one. */
function course(program, place) {
  const entropies = Object.values(program.readings).map((reading) => reading.entropy[place]);
  const [first, last] = [entropies[0], entropies[entropies.length - 1]];
  if (entropies.length < 2 || first === null || last === null) return `${nats(first)} nats`;
  return `${nats(first)} to ${nats(last)} nats (${signed(last - first)})`;
}

/** What one model expects at a place: its five most probable tokens with bars. */
function expectations(model, reading, place, words, actual) {
  const column = element("div", "model");
  const kept = reading.support[place];
  column.append(element("p", "name", model));
  column.append(
    element("p", "facts", `${nats(reading.entropy[place])} nats, tail ${percent(reading.tail[place])}, keeps ${kept}`),
  );
  const list = element("ol");
  for (const [word, share] of reading.top[place]) {
    const entry = element("li", word === actual ? "actual" : "");
    const bar = element("span", "bar");
    bar.style.width = `${100 * share}%`;
    entry.append(bar, element("code", "", visible(words[word])), element("span", "share", percent(share)));
    list.append(entry);
  }
  column.append(list);
  return column;
}

/** A label for screen readers: token, kind, entropies, and the three most probable tokens of each. */
function label(program, place, words) {
  const parts = Object.entries(program.readings).map(([model, reading]) => {
    const expected = reading.top[place].slice(0, 3);
    return `${model}: ${expected.map(([word, share]) => `${spoken(words[word])} ${percent(share)}`).join(", ")}`;
  });
  const text = spoken(words[program.tokens[place]]);
  return `${text}. ${program.kinds[place]}, entropy ${course(program, place)}. ${parts.join(". ")}`;
}

/** The token on the line above or below that stands nearest to `from`. */
function onNextLine(tokens, from, step) {
  const start = tokens[from].getClientRects()[0];
  let best = from;
  let distance = Infinity;
  for (let place = from + step; tokens[place]; place += step) {
    const box = tokens[place].getClientRects()[0];
    if (!box || Math.abs(box.top - start.top) < start.height / 2) continue;
    const away = Math.abs(box.left - start.left) + 1e4 * Math.abs(box.top - start.top);
    if (away < distance) [best, distance] = [place, away];
    else if (Math.abs(box.top - start.top) > 3 * start.height) break;
  }
  return best;
}

/** Hover, focus and arrow keys of one program; `show` is given a place, or null to close. */
function makeProgram(box, program, words, show) {
  const tokens = [...box.querySelectorAll("code > span")];
  const list = box.querySelector("code");
  const placeOf = (node) => tokens.indexOf(node.closest?.("code > span"));
  let current = 0;
  let focused = false;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-orientation", "horizontal");
  list.setAttribute("aria-label", `Tokens of ${program.name}; arrow keys move, Escape closes`);
  tokens.forEach((token, place) => {
    token.setAttribute("role", "option");
    token.tabIndex = place ? -1 : 0;
  });
  const open = (place) => {
    tokens.forEach((token, other) => token.classList.toggle("shown", other === place));
    show(place === null ? null : program, place);
  };
  list.addEventListener("mouseover", (event) => {
    const place = placeOf(event.target);
    if (place >= 0) open(place);
  });
  list.addEventListener("mouseleave", () => open(focused ? current : null));
  list.addEventListener("focusin", (event) => {
    tokens[current].tabIndex = -1;
    current = placeOf(event.target);
    tokens[current].tabIndex = 0;
    tokens[current].setAttribute("aria-label", label(program, current, words));
    focused = true;
    open(current);
  });
  list.addEventListener("focusout", () => {
    focused = false;
    open(null);
  });
  list.addEventListener("keydown", (event) => {
    const moves = {
      ArrowRight: () => Math.min(current + 1, tokens.length - 1),
      ArrowLeft: () => Math.max(current - 1, 0),
      ArrowDown: () => onNextLine(tokens, current, 1),
      ArrowUp: () => onNextLine(tokens, current, -1),
      Home: () => 0,
      End: () => tokens.length - 1,
    };
    if (event.key === "Escape") open(null);
    if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const place = moves[event.key]();
    if (place === current) open(current);
    else tokens[place].focus();
  });
}

/** One code map: its programs share a panel, which stays in view below them. The base and the tuned
 *  model stand side by side in it, controls after them. */
function makeCodeMap(map) {
  const data = JSON.parse(map.querySelector("script").textContent);
  const panel = element("div", "panel");
  const hint = "Point at a token, or press Tab to reach a program and the arrow keys to move.";
  const show = (program, place) => {
    panel.classList.toggle("open", program !== null);
    if (program === null) return panel.replaceChildren(element("p", "hint", hint));
    const actual = program.tokens[place];
    const head = element("p", "head");
    head.append(
      element("code", "", visible(data.words[actual])),
      element("span", "kind", program.kinds[place]),
      ` entropy ${course(program, place)}`,
    );
    const models = element("div", "models");
    const [base, ...trained] = Object.entries(program.readings);
    for (const [model, reading] of [base, ...trained.reverse()])
      models.append(expectations(model, reading, place, data.words, actual));
    return panel.replaceChildren(head, models);
  };
  const boxes = [...map.querySelectorAll(".program")];
  boxes.forEach((box, number) => makeProgram(box, data.programs[number], data.words, show));
  map.append(panel);
  show(null);
}

document.querySelectorAll("table").forEach(makeSortable);
document.querySelectorAll(".map").forEach(makeCodeMap);
