// ---- a picture by itself: larger, with its name, to be marked or found on the map

const hooks = { toMap: null, labelToMap: null }; // what the map does, once it is drawn

const dialog = byId("picture");
let leave = null;
dialog.addEventListener("close", () => {
  leave?.();
  leave = null;
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

const describe = (shot) => {
  const id = shot.querySelector("use")?.getAttribute("href").slice(1);
  const { path, label } = shot.dataset;
  return { id, path, label, name: label || "no label" };
};

const openPicture = (shot) => {
  const { id, path, label, name } = describe(shot);
  const box = make("div", { class: "marks", "data-path": path, "data-label": label });
  const buttons = make("div", { class: "buttons" });
  if (hooks.toMap?.(path, false)) {
    buttons.append(button("Show on the map", () => {
      dialog.close();
      hooks.toMap(path, true);
    }));
  }
  buttons.append(button("Close", () => dialog.close()));
  const drawn = drawShot(id, `${name}: ${path}`, path, label);
  dialog.replaceChildren(
    ...(drawn ? [drawn] : []),
    make("h2", { id: "picture-title" }, name),
    make("span", { class: "path" }, path),
    box,
    buttons,
  );
  leave = addMarks(box);
  dialog.showModal();
};

// A row of pictures is one stop of the Tab key; the arrow keys go on inside of it.
for (const row of document.querySelectorAll(".strip, .voters")) {
  const picks = [...row.querySelectorAll(".shot")].map((shot) => {
    const { path, name } = describe(shot);
    const pick = make("button", { type: "button", class: "pick", tabindex: "-1", "aria-label": `${name}: ${path}`, "aria-haspopup": "dialog" });
    shot.replaceWith(pick);
    pick.append(shot);
    pick.addEventListener("click", () => openPicture(shot));
    return pick;
  });
  if (!picks.length) continue;
  picks[0].tabIndex = 0;
  const go = (to) => {
    if (!picks[to]) return;
    for (const pick of picks) pick.tabIndex = -1;
    picks[to].tabIndex = 0;
    picks[to].focus();
  };
  row.addEventListener("keydown", (event) => {
    const at = picks.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: picks.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    go(to);
  });
}

for (const heading of document.querySelectorAll(".sheet h3")) {
  const { label } = heading.dataset;
  const attributes = { class: "to-map", "data-label": label, "aria-label": `${label} on the map`, hidden: "" };
  heading.parentElement.append(button("On the map", () => hooks.labelToMap(label), attributes));
}
