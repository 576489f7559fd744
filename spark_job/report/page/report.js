"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  document.documentElement.classList.add("scripted");

  // A picture that stands on the page several times is in it once.
  for (const image of document.querySelectorAll("img[data-same]")) {
    image.src = byId(image.dataset.same).src;
  }

  // ---- corrections: path -> {action, label}, kept while the browser keeps the page's storage
  const corrections = new Map();
  const key = `orchard ${document.body.dataset.batch} ${document.body.dataset.run}`;
  const remember = () => {
    try { localStorage.setItem(key, JSON.stringify([...corrections])); } catch { /* not kept */ }
  };
  try {
    for (const [path, one] of JSON.parse(localStorage.getItem(key) || "[]")) corrections.set(path, one);
  } catch { /* of another page */ }

  const controls = new Map(); // path -> functions that show its state
  const show = (path) => (controls.get(path) || []).forEach((update) => update());
  const correct = (path, action, label = "") => {
    const known = corrections.get(path);
    if (!action || (known && known.action === action && known.label === label)) corrections.delete(path);
    else corrections.set(path, { action, label });
    remember();
    show(path);
    count();
  };
  const count = () => {
    const drops = [...corrections.values()].filter((one) => one.action === "drop").length;
    const others = corrections.size - drops;
    byId("corrections").hidden = corrections.size === 0;
    byId("corrections-count").textContent = [
      others ? `${others} to relabel` : "", drops ? `${drops} to drop` : "",
    ].filter(Boolean).join(", ");
  };

  const addMarks = (box) => {
    const { path, label, suggested } = box.dataset;
    const buttons = [];
    const button = (text, action, value) => {
      const one = make("button", text, { type: "button", "aria-pressed": "false" });
      one.setAttribute("aria-label", `${text}: ${path}`);
      one.addEventListener("click", () => correct(path, action, value()));
      buttons.push([one, action, value]);
      box.append(one);
    };
    if (suggested) button(`Relabel to ${suggested}`, "relabel", () => suggested);
    button("Drop", "drop", () => "");
    const other = make("input", "", {
      type: "text", list: "all-labels", placeholder: "another label", "aria-label": `Another label for ${path}`,
    });
    other.addEventListener("change", () => {
      const wanted = other.value.trim();
      if (wanted && wanted !== label) corrections.set(path, { action: "relabel", label: wanted });
      else if (!wanted && corrections.get(path)?.label !== suggested) corrections.delete(path);
      remember();
      show(path);
      count();
    });
    box.append(other);
    const update = () => {
      const known = corrections.get(path);
      for (const [one, action, value] of buttons) {
        one.setAttribute("aria-pressed", String(known?.action === action && known.label === value()));
      }
      other.value = known?.action === "relabel" && known.label !== suggested ? known.label : "";
    };
    if (!controls.has(path)) controls.set(path, []);
    controls.get(path).push(update);
    update();
  };
  document.querySelectorAll(".marks").forEach(addMarks);
  count();

  byId("corrections-clear").addEventListener("click", () => {
    const paths = [...corrections.keys()];
    corrections.clear();
    remember();
    paths.forEach(show);
    count();
  });
  byId("corrections-save").addEventListener("click", () => {
    const quote = (text) => `"${text.replaceAll('"', '""')}"`;
    const rows = [...corrections].sort(([a], [b]) => (a < b ? -1 : 1));
    const lines = rows.map(([path, { action, label }]) => [quote(path), action, label ? quote(label) : ""].join(","));
    const file = new Blob([["path,action,label", ...lines, ""].join("\n")], { type: "text/csv" });
    const link = make("a", "", { href: URL.createObjectURL(file), download: `corrections-${document.body.dataset.batch}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // ---- the map
  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };

  const startMap = (data) => {
    const canvas = byId("map-canvas"), box = byId("map-box"), tip = byId("map-tip");
    const detail = byId("map-detail"), status = byId("map-status"), found = byId("map-found");
    const n = data.path.length;
    const axes = data.axes.map((text) => {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      return new Uint16Array(bytes.buffer);
    });
    const name = (at) => (data.label[at] < 0 ? "no label" : data.labels[data.label[at]]);
    const hue = (label) => (label < 0 ? 0 : (label * 137.508) % 360);
    let x = 0, y = axes.length > 1 ? 1 : 0, current = -1, shown = null, hits = null;

    for (const [select, chosen] of [[byId("map-x"), x], [byId("map-y"), y]]) {
      axes.forEach((_, at) => {
        const share = data.shares[at] === undefined ? "" : ` (${(100 * data.shares[at]).toFixed(1)}%)`;
        select.append(make("option", `component ${at + 1}${share}`, { value: at }));
      });
      select.value = chosen;
    }
    const sizes = new Map();
    data.label.forEach((label) => sizes.set(label, (sizes.get(label) || 0) + 1));
    data.labels.forEach((text, at) => {
      byId("map-label").append(make("option", `${text} (${sizes.get(at) || 0})`, { value: at }));
    });
    for (const [word, places] of Object.entries(data.flags)) {
      if (places.length) byId("map-flag").append(make("option", `${word} (${places.length})`, { value: word }));
    }

    // Few labels have a legend, of which each is a button that shows it alone; more share colours.
    const legend = byId("map-legend");
    const few = data.labels.length > 1 && data.labels.length <= 12;
    if (few) {
      data.labels.forEach((text, at) => {
        const button = make("button", text, { type: "button", "aria-pressed": "false" });
        button.prepend(make("span", "", { class: "swatch", style: `background: hsl(${hue(at)} 60% 50%)` }));
        button.addEventListener("click", () => {
          const select = byId("map-label");
          select.value = select.value === String(at) ? "" : String(at);
          filter();
        });
        legend.append(button);
      });
    }

    const margin = 14;
    let zoom = 1, middle = [0.5, 0.5];
    const place = (at) => [
      margin + ((axes[x][at] / 65535 - middle[0]) * zoom + 0.5) * (box.clientWidth - 2 * margin),
      margin + ((1 - axes[y][at] / 65535 - middle[1]) * zoom + 0.5) * (box.clientHeight - 2 * margin),
    ];
    const look = (times, around = middle) => {
      const next = Math.min(64, Math.max(1, zoom * times));
      // What lies around that place stays where it is on the screen.
      middle = around.map((at, axis) => at + (middle[axis] - at) * (zoom / next));
      zoom = next;
      if (zoom === 1) middle = [0.5, 0.5];
      draw();
    };
    const under = (event) => [
      ((event.offsetX - margin) / (box.clientWidth - 2 * margin) - 0.5) / zoom + middle[0],
      ((event.offsetY - margin) / (box.clientHeight - 2 * margin) - 0.5) / zoom + middle[1],
    ];
    byId("map-in").addEventListener("click", () => look(1.6));
    byId("map-out").addEventListener("click", () => look(1 / 1.6));
    byId("map-whole").addEventListener("click", () => look(1 / 64));
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && zoom === 1) return; // the page scrolls
      event.preventDefault();
      look(event.deltaY < 0 ? 1.25 : 0.8, under(event));
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => look(2, under(event)));
    let held = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (zoom > 1) { held = under(event); canvas.setPointerCapture(event.pointerId); }
    });
    canvas.addEventListener("pointerup", () => { held = null; });
    canvas.addEventListener("pointercancel", () => { held = null; });
    const isShown = (at) => (!shown || shown.has(at)) && (!hits || hits.has(at));
    const draw = () => {
      const ratio = window.devicePixelRatio || 1;
      const width = box.clientWidth, height = box.clientHeight;
      canvas.width = width * ratio;
      canvas.height = height * ratio;
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      const size = n > 5000 ? 1.6 : n > 800 ? 2.4 : 4;
      const all = !shown && !hits;
      const point = (at, radius) => {
        const [across, up] = place(at);
        pen.beginPath();
        pen.arc(across, up, radius, 0, 7);
        pen.fill();
      };
      if (!all) {
        pen.fillStyle = dark ? "#39423c" : "#d9deda";
        for (let at = 0; at < n; at += 1) if (!isShown(at)) point(at, size * 0.8);
      }
      for (let at = 0; at < n; at += 1) {
        if (!isShown(at)) continue;
        pen.fillStyle = data.label[at] < 0 ? (dark ? "#9aa" : "#566") : `hsl(${hue(data.label[at])} 60% ${dark ? 62 : 42}% / ${all ? 0.75 : 1})`;
        point(at, all ? size : size * 1.5);
      }
      if (current >= 0) {
        const [across, up] = place(current);
        pen.strokeStyle = dark ? "#fff" : "#000";
        pen.lineWidth = 2;
        pen.beginPath();
        pen.arc(across, up, size * 1.5 + 4, 0, 7);
        pen.stroke();
      }
    };

    const nearest = (across, up, within) => {
      let best = -1, least = within * within;
      for (let at = 0; at < n; at += 1) {
        if (!isShown(at)) continue;
        const [left, top] = place(at);
        const apart = (left - across) ** 2 + (top - up) ** 2;
        if (apart < least) { least = apart; best = at; }
      }
      return best;
    };
    const pictured = Object.keys(data.pictures).map(Number);
    // The picture itself, or that of the nearest point of its label that has one.
    const picture = (at) => {
      if (data.pictures[at]) return [data.pictures[at], at];
      const [across, up] = place(at);
      let best = -1, least = Infinity;
      for (const other of pictured) {
        if (data.label[other] !== data.label[at]) continue;
        const [left, top] = place(other);
        const apart = (left - across) ** 2 + (top - up) ** 2;
        if (apart < least) { least = apart; best = other; }
      }
      return best < 0 ? [null, -1] : [data.pictures[best], best];
    };
    const describe = (element, at) => {
      element.replaceChildren();
      const [id, of] = picture(at);
      if (id) element.append(make("img", "", { class: "shot", src: byId(id).src, alt: `${name(of)}: ${data.path[of]}` }));
      const text = make("div");
      text.append(make("b", name(at)), make("span", data.path[at], { class: "path" }));
      if (id && of !== at) text.append(make("span", `shown is the nearest with a picture: ${data.path[of]}`, { class: "path" }));
      element.append(text);
      return text;
    };
    const goTo = (at) => {
      current = at;
      const [across, up] = place(at);
      if (across < 0 || up < 0 || across > box.clientWidth || up > box.clientHeight) {
        middle = [axes[x][at] / 65535, 1 - axes[y][at] / 65535];
      }
      draw();
    };
    const choose = (at) => {
      goTo(at);
      const text = describe(detail, at);
      const marks = make("div", "", { class: "marks", "data-path": data.path[at], "data-label": data.label[at] < 0 ? "" : name(at) });
      text.append(marks);
      addMarks(marks);
      detail.hidden = false;
    };

    canvas.addEventListener("pointermove", (event) => {
      if (held) {
        const now = under(event);
        middle = middle.map((at, axis) => at + held[axis] - now[axis]);
        tip.hidden = true;
        draw();
        return;
      }
      const at = nearest(event.offsetX, event.offsetY, 18);
      tip.hidden = at < 0;
      if (at < 0) return;
      describe(tip, at);
      const [across, up] = place(at);
      tip.style.left = `${Math.min(Math.max(0, across + 12), box.clientWidth - 156)}px`;
      tip.style.top = `${up > box.clientHeight / 2 ? Math.max(0, up - tip.offsetHeight - 8) : up + 12}px`;
    });
    canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
    canvas.addEventListener("click", (event) => {
      const at = nearest(event.offsetX, event.offsetY, 24);
      if (at >= 0) choose(at);
    });
    canvas.addEventListener("keydown", (event) => {
      const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const way = ways[event.key];
      if (way) {
        event.preventDefault();
        const from = current >= 0 ? place(current) : [box.clientWidth / 2, box.clientHeight / 2];
        let best = -1, least = Infinity;
        for (let at = 0; at < n; at += 1) {
          if (at === current || !isShown(at)) continue;
          const [left, top] = place(at);
          const along = (left - from[0]) * way[0] + (top - from[1]) * way[1];
          const aside = Math.abs((left - from[0]) * way[1]) + Math.abs((top - from[1]) * way[0]);
          if (along <= 0.5) continue;
          const apart = along + 2 * aside;
          if (apart < least) { least = apart; best = at; }
        }
        if (best >= 0) {
          goTo(best);
          status.textContent = `${name(best)}: ${data.path[best]}`;
        }
      } else if (event.key === "Enter" && current >= 0) {
        choose(current);
      } else if (event.key === "+" || event.key === "-") {
        const [across, up] = current < 0 ? [0.5, 0.5] : [axes[x][current] / 65535, 1 - axes[y][current] / 65535];
        look(event.key === "+" ? 1.6 : 1 / 1.6, [across, up]);
      } else if (event.key === "Escape") {
        current = -1;
        detail.hidden = true;
        draw();
      }
    });

    const filter = () => {
      const label = byId("map-label").value, flag = byId("map-flag").value;
      [...legend.children].forEach((one, at) => one.setAttribute("aria-pressed", String(label === String(at))));
      const words = byId("map-search").value.trim().toLowerCase();
      shown = null;
      if (label !== "" || flag) {
        const flagged = flag ? new Set(data.flags[flag]) : null;
        shown = new Set();
        for (let at = 0; at < n; at += 1) {
          if ((label === "" || data.label[at] === Number(label)) && (!flagged || flagged.has(at))) shown.add(at);
        }
      }
      hits = null;
      found.replaceChildren();
      if (words) {
        hits = new Set();
        for (let at = 0; at < n; at += 1) if (data.path[at].toLowerCase().includes(words)) hits.add(at);
        for (const at of [...hits].filter((one) => !shown || shown.has(one)).slice(0, 12)) {
          const button = make("button", data.path[at], { type: "button" });
          button.addEventListener("click", () => choose(at));
          const item = make("li");
          item.append(button);
          found.append(item);
        }
      }
      let left = 0;
      for (let at = 0; at < n; at += 1) if (isShown(at)) left += 1;
      status.textContent = left === n ? "" : `${left.toLocaleString("en")} of ${n.toLocaleString("en")} pictures`;
      draw();
    };
    byId("map-controls").addEventListener("submit", (event) => {
      event.preventDefault();
      found.querySelector("button")?.click();
    });
    byId("map-x").addEventListener("change", (event) => { x = Number(event.target.value); draw(); });
    byId("map-y").addEventListener("change", (event) => { y = Number(event.target.value); draw(); });
    byId("map-label").addEventListener("change", filter);
    byId("map-flag").addEventListener("change", filter);
    byId("map-search").addEventListener("input", filter);
    byId("map-controls").hidden = false;
    box.hidden = false;
    new ResizeObserver(draw).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
    document.documentElement.classList.add("mapped");
  };
  unpack(byId("map-data").textContent).then(startMap).catch((error) => {
    byId("map-status").textContent = `The map cannot be drawn here: ${error.message}`;
  });
})();
