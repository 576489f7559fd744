// ---- what a person marks: to relabel, or to drop; saved as a CSV of corrections

// The run's own corrections are marked from the start: the next run takes one file.
const applied = new Map(JSON.parse(document.body.dataset.applied).map(
  ([path, label]) => [path, label === null ? { action: "drop", label: "" } : { action: "relabel", label }],
));
const corrections = new Map(applied); // path -> {action, label}
const key = `orchard ${batch} ${document.body.dataset.run}`;
try {
  const kept = JSON.parse(localStorage.getItem(key) || "null");
  if (kept) {
    const marked = new Map(kept);
    corrections.clear();
    for (const [path, one] of marked) corrections.set(path, one);
  }
} catch { /* not kept, or of something else */ }
const remember = () => {
  try { localStorage.setItem(key, JSON.stringify([...corrections])); } catch { /* not kept */ }
};

const shots = new Map(); // path -> pictures of it on the page
for (const shot of document.querySelectorAll(".shot[data-path]")) {
  const { path } = shot.dataset;
  if (!shots.has(path)) shots.set(path, []);
  shots.get(path).push(shot);
}
const updates = new Map(); // path -> functions that show its state in its controls

const isSame = (one, other) => one?.action === other?.action && one?.label === other?.label;
const isApplied = (path) => applied.has(path) && isSame(corrections.get(path), applied.get(path));
const isChanged = () => corrections.size !== applied.size || [...applied.keys()].some((path) => !isApplied(path));

const showMark = (shot) => {
  const known = corrections.get(shot.dataset.path);
  if (known && !isApplied(shot.dataset.path)) shot.dataset.marked = known.action;
  else delete shot.dataset.marked;
};
const showState = (path) => {
  (shots.get(path) || []).forEach(showMark);
  (updates.get(path) || []).forEach((update) => update());
};

const inWords = () => {
  const drops = [...corrections.values()].filter((one) => one.action === "drop").length;
  const others = corrections.size - drops;
  const before = [...corrections.keys()].filter(isApplied).length;
  const told = [others ? `${others} to relabel` : "", drops ? `${drops} to drop` : ""].filter(Boolean).join(", ");
  return told + (before ? `; ${before} applied in this run already` : "");
};

const listed = byId("corrections-list"), cleared = [];
const fileName = `corrections-${batch}.csv`;
byId("corrections-option").textContent = `--corrections ${fileName}`;
const sorted = () => [...corrections].sort(([a], [b]) => (a < b ? -1 : 1));

const showCorrections = () => {
  bar.hidden = corrections.size === 0 && cleared.length === 0;
  byId("corrections-count").textContent = inWords() || "Nothing is marked";
  byId("corrections-save").disabled = corrections.size === 0;
  byId("corrections-clear").textContent = isChanged() || !cleared.length ? "Clear" : "Bring them back";
  byId("corrections-clear").disabled = !isChanged() && !cleared.length;
  listed.replaceChildren(...sorted().map(([path, { action, label }]) => make(
    "li",
    {},
    button("Undo", () => {
      const next = [...listed.children].findIndex((item) => item.contains(document.activeElement));
      mark(path, null);
      (listed.children[Math.min(next, listed.children.length - 1)]?.firstChild || byId("main")).focus();
    }, { "aria-label": `Undo: ${path}` }),
    make("span", {}, (action === "drop" ? `drop ${path}` : `relabel ${path} to ${label}`) + (isApplied(path) ? " (applied already)" : "")),
  )));
};

// Mark one picture, or take its mark back where `action` is null: first to what is applied already.
const mark = (path, action, label = "") => {
  if (action) corrections.set(path, { action, label });
  else if (applied.has(path) && !isApplied(path)) corrections.set(path, applied.get(path));
  else corrections.delete(path);
  cleared.length = 0;
  remember();
  showState(path);
  showCorrections();
  announce(inWords() || "Nothing is marked");
};
const isMarked = (path, action, label = "") => {
  const known = corrections.get(path);
  return known?.action === action && known.label === label;
};

// The job's own rule: it refuses a file in which one label is another.
const LONGEST_LABEL = Number(document.body.dataset.longestLabel);
const UNFIT = new RegExp(document.body.dataset.unfit, "u");
const isFit = (label) => Boolean(label?.trim()) && !UNFIT.test(label) && [...label].length <= LONGEST_LABEL;

// Put the controls of one picture into a box that names it.
const addMarks = (box) => {
  const { path, label } = box.dataset;
  const suggested = isFit(box.dataset.suggested) ? box.dataset.suggested : "";
  const shown = [];
  const toggle = (text, action, value, kind) => {
    const one = button(text, () => {
      if (isMarked(path, action, value)) mark(path, null);
      else mark(path, action, value);
    }, { class: kind, "aria-label": `${text}: ${path}` });
    shown.push(() => one.setAttribute("aria-pressed", String(isMarked(path, action, value))));
    box.append(one);
  };
  if (suggested) toggle(`Relabel to ${suggested}`, "relabel", suggested, "relabel");
  toggle("Drop", "drop", "", "drop");

  const field = make("input", {
    type: "text", list: "all-labels", maxlength: LONGEST_LABEL, placeholder: "another label",
    "aria-label": `Another label for ${path}`,
  });
  const open = button(suggested ? "Other label" : "Relabel", () => {
    field.hidden = !field.hidden;
    open.setAttribute("aria-expanded", String(!field.hidden));
    if (!field.hidden) field.focus();
  }, { "aria-label": `${suggested ? "Other label" : "Relabel"}: ${path}`, "aria-expanded": "false" });
  // The label that the field shows: another one than is suggested, or applied already.
  const other = () => {
    const known = corrections.get(path);
    return known?.action === "relabel" && known.label !== suggested && !isApplied(path) ? known.label : "";
  };
  const take = () => {
    const wanted = field.value.trim();
    if (wanted === other()) return;
    field.setCustomValidity(UNFIT.test(wanted) ? "A label has neither slashes nor control characters." : "");
    if (!field.reportValidity()) return;
    const before = applied.get(path);
    if (wanted && (wanted !== label || wanted === before?.label)) mark(path, "relabel", wanted);
    else if (corrections.get(path)?.action === "relabel") mark(path, null);
  };
  field.addEventListener("change", take);
  field.addEventListener("input", () => field.setCustomValidity(""));
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault(); // a dialog stays open
    event.stopPropagation();
    field.value = other(); // as it was
    field.setCustomValidity("");
    field.hidden = !field.value;
    open.setAttribute("aria-expanded", String(!field.hidden));
    open.focus();
  });
  box.append(open, field);
  shown.push(() => {
    const known = other();
    if (document.activeElement !== field || known) field.value = known;
    if (known || document.activeElement !== field) field.hidden = !known;
    open.setAttribute("aria-expanded", String(!field.hidden));
  });

  const update = () => shown.forEach((one) => one());
  if (!updates.has(path)) updates.set(path, new Set());
  updates.get(path).add(update);
  update();
  return () => updates.get(path).delete(update); // where the controls leave the page
};

document.querySelectorAll(".marks").forEach(addMarks);

// All copies of a group at once, but for the one to keep.
for (const group of document.querySelectorAll(".groups > li")) {
  const copies = [...group.querySelectorAll("figure.copy .marks")].map((one) => one.dataset.path);
  const kept = group.querySelector("figure.keep .path")?.textContent || "";
  const all = () => copies.every((path) => isMarked(path, "drop"));
  const text = copies.length === 1 ? "Drop the copy" : `Drop the ${copies.length} copies`;
  const one = button(text, () => {
    const action = all() ? null : "drop";
    copies.forEach((path) => mark(path, action));
  }, { class: "drop", "aria-label": `${text} of ${kept}` });
  const update = () => one.setAttribute("aria-pressed", String(all()));
  copies.forEach((path) => updates.get(path).add(update));
  if (copies.length) group.querySelector(".head").append(one);
  update();
}

for (const path of corrections.keys()) showState(path);
showCorrections();

byId("corrections-clear").addEventListener("click", () => {
  const before = [...corrections], back = cleared.splice(0);
  if (isChanged()) cleared.push(...before);
  corrections.clear();
  for (const [path, one] of back.length ? back : applied) corrections.set(path, one);
  remember();
  for (const path of new Map([...before, ...back, ...applied]).keys()) showState(path);
  showCorrections();
  announce(inWords() || "Nothing is marked");
});

byId("corrections-save").addEventListener("click", () => {
  const quote = (text) => `"${text.replaceAll('"', '""')}"`;
  const lines = sorted().map(([path, { action, label }]) => [quote(path), action, label ? quote(label) : ""].join(","));
  const file = new Blob([["path,action,label", ...lines, ""].join("\n")], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(file), download: fileName });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
