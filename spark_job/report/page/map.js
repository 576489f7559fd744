// ---- the map: a canvas of points, at two of the vectors' components

const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

const decodeAxis = (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 2 }, (_, at) => view.getUint16(2 * at, true) / 65535);
};

// Few labels have colours that differ, on either paper; more share the colours of a wheel.
const FEW = 12;
const LIGHT = ["#1f6fb2", "#c8501b", "#1c8a5a", "#a23a8f", "#9a7400", "#5b53c0", "#c2294b", "#0e8ba0", "#6d8f1e", "#7a5230", "#d2559f", "#5f6b66"];
const DARK = ["#6fb1ea", "#f0884f", "#5cc795", "#d98fd0", "#d8b24a", "#a09af0", "#f0798f", "#55c3d6", "#acc95a", "#c79a72", "#f29ac4", "#aab4ae"];
const NONE = -1; // the number of no label

const startMap = (data) => {
  const n = data.path.length;
  const axes = data.axes.map(decodeAxis);
  const canvas = byId("map-canvas"), box = byId("map-box"), tip = byId("map-tip");
  const held = byId("map-detail"), status = byId("map-status"), found = byId("map-found");
  const labelOf = (at) => (data.label[at] === NONE ? "" : data.labels[data.label[at]]);
  const name = (at) => labelOf(at) || "no label";
  const few = data.labels.length <= FEW;
  const colour = (label, dark) => {
    if (label === NONE) return dark ? "#e6ebe7" : "#1d2320";
    return few ? (dark ? DARK : LIGHT)[label] : `hsl(${(label * 137.508) % 360} 60% ${dark ? 62 : 42}%)`;
  };
  const isDark = () => matchMedia("screen and (prefers-color-scheme: dark)").matches;

  // -- where points are
  const margin = 14;
  const left = new Float64Array(n), top = new Float64Array(n);
  let x = 0, y = axes.length > 1 ? 1 : 0, zoom = 1, middle = [0.5, 0.5], width = 1, height = 1;
  let current = -1, shown = null, hits = null;
  const isShown = (at) => (!shown || shown.has(at)) && (!hits || hits.has(at));
  const locate = () => {
    for (let at = 0; at < n; at += 1) {
      left[at] = margin + ((axes[x][at] - middle[0]) * zoom + 0.5) * (width - 2 * margin);
      top[at] = margin + ((1 - axes[y][at] - middle[1]) * zoom + 0.5) * (height - 2 * margin);
    }
  };

  // -- drawing
  const radius = n > 5000 ? 1.6 : n > 800 ? 2.6 : 4;
  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const dark = isDark(), all = !shown && !hits;
    const point = (at, size) => {
      pen.beginPath();
      pen.arc(left[at], top[at], size, 0, 7);
      pen.fill();
    };
    if (!all) {
      pen.fillStyle = dark ? "#39423c" : "#d9deda";
      for (let at = 0; at < n; at += 1) if (!isShown(at)) point(at, radius * 0.8);
    }
    pen.globalAlpha = all ? 0.8 : 1;
    for (let at = 0; at < n; at += 1) {
      if (!isShown(at)) continue;
      pen.fillStyle = colour(data.label[at], dark);
      point(at, all ? radius : radius * 1.4);
    }
    pen.globalAlpha = 1;
    if (current >= 0) {
      pen.strokeStyle = dark ? "#fff" : "#000";
      pen.lineWidth = 2;
      pen.beginPath();
      pen.arc(left[current], top[current], radius * 1.4 + 4, 0, 7);
      pen.stroke();
    }
  };
  const redraw = () => {
    width = box.clientWidth;
    height = box.clientHeight;
    box.classList.toggle("near", zoom > 1);
    locate();
    draw();
  };

  // -- a picture of a point, or of the nearest one of its label that has one
  const pictured = Object.keys(data.pictures).map(Number);
  const pictureOf = (at) => {
    if (data.pictures[at]) return at;
    let best = -1, least = Infinity;
    for (const other of pictured) {
      if (data.label[other] !== data.label[at]) continue;
      const apart = (left[other] - left[at]) ** 2 + (top[other] - top[at]) ** 2;
      if (apart < least) { least = apart; best = other; }
    }
    return best;
  };
  const showIn = (element, at) => {
    const of = pictureOf(at);
    const text = make("div", {}, make("b", {}, name(at)), make("span", { class: "path" }, data.path[at]));
    if (of >= 0 && of !== at) {
      text.append(make("span", { class: "path" }, `the picture is of the nearest that has one: ${data.path[of]}`));
    }
    const drawn = of < 0 ? null : drawShot(data.pictures[of], `${name(of)}: ${data.path[of]}`, data.path[of], labelOf(of));
    element.replaceChildren(...(drawn ? [drawn, text] : [text]));
    return text;
  };
  const showTip = (at) => {
    tip.hidden = at < 0;
    if (at < 0) return;
    showIn(tip, at);
    tip.style.left = `${Math.min(Math.max(0, left[at] + 12), Math.max(0, width - tip.offsetWidth - 4))}px`;
    const above = top[at] > height / 2;
    const wanted = above ? top[at] - tip.offsetHeight - 8 : top[at] + 12;
    tip.style.top = `${Math.max(0, Math.min(wanted, height - tip.offsetHeight))}px`;
  };

  // -- going to a point, and holding it
  const goTo = (at) => {
    current = at;
    const outside = left[at] < 0 || top[at] < 0 || left[at] > width || top[at] > height;
    if (outside) middle = [axes[x][at], 1 - axes[y][at]];
    redraw();
  };
  const walkTo = (at) => {
    goTo(at);
    showTip(at);
    status.textContent = `${name(at)}: ${data.path[at]}`;
  };
  let leaveHeld = null;
  const letGo = () => {
    leaveHeld?.();
    leaveHeld = null;
    held.hidden = true;
    held.replaceChildren();
  };
  const hold = (at) => {
    letGo();
    goTo(at);
    showTip(-1);
    const text = showIn(held, at);
    const marks = make("div", { class: "marks", "data-path": data.path[at], "data-label": labelOf(at) });
    text.append(marks);
    leaveHeld = addMarks(marks);
    const beside = [];
    for (let other = 0; other < n && beside.length < 6; other += 1) {
      const apart = Math.hypot(left[other] - left[at], top[other] - top[at]);
      if (other !== at && isShown(other) && apart < 3) beside.push(other);
    }
    if (beside.length) {
      text.append(make("div", { class: "buttons" }, "at the same place: ", ...beside.map(
        (other) => button(data.path[other], () => { hold(other); held.focus(); }),
      )));
    }
    text.append(make("div", { class: "buttons" }, button("Let go", () => {
      letGo();
      canvas.focus({ preventScroll: true });
    })));
    held.hidden = false;
    held.scrollIntoView({ block: "nearest" });
  };
  held.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    letGo();
    canvas.focus();
  });

  // -- zoom
  const look = (times, around = middle) => {
    const next = Math.min(64, Math.max(1, zoom * times));
    // What lies around that place stays where it is on the screen.
    middle = next === 1 ? [0.5, 0.5] : around.map((at, axis) => at + (middle[axis] - at) * (zoom / next));
    zoom = next;
    showTip(-1);
    redraw();
    announce(zoom === 1 ? "The whole map" : `${zoom.toFixed(1)} times as large`);
  };
  const under = (event) => [
    ((event.offsetX - margin) / (width - 2 * margin) - 0.5) / zoom + middle[0],
    ((event.offsetY - margin) / (height - 2 * margin) - 0.5) / zoom + middle[1],
  ];
  const aroundCurrent = () => (current < 0 ? middle : [axes[x][current], 1 - axes[y][current]]);
  byId("map-in").addEventListener("click", () => look(1.6, aroundCurrent()));
  byId("map-out").addEventListener("click", () => look(1 / 1.6, aroundCurrent()));
  byId("map-whole").addEventListener("click", () => look(1 / 64));
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the page scrolls; a pinch on a touchpad comes with it
    event.preventDefault();
    look(event.deltaY < 0 ? 1.25 : 0.8, under(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => look(2, under(event)));

  // -- with a pointer
  const nearest = (event, within) => {
    let best = -1, least = within * within;
    for (let at = 0; at < n; at += 1) {
      const apart = (left[at] - event.offsetX) ** 2 + (top[at] - event.offsetY) ** 2;
      if (apart < least && isShown(at)) { least = apart; best = at; }
    }
    return best;
  };
  let grip = null, dragged = false;
  canvas.addEventListener("pointerdown", (event) => {
    dragged = false;
    if (zoom > 1) {
      grip = { at: under(event), from: [event.offsetX, event.offsetY] };
      canvas.setPointerCapture(event.pointerId);
    }
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!grip) return showTip(nearest(event, 18));
    dragged ||= Math.hypot(event.offsetX - grip.from[0], event.offsetY - grip.from[1]) > 4;
    if (!dragged) return undefined;
    const now = under(event);
    middle = middle.map((at, axis) => Math.min(1, Math.max(0, at + grip.at[axis] - now[axis])));
    showTip(-1);
    return redraw();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { grip = null; });
  canvas.addEventListener("pointerleave", () => showTip(-1));
  canvas.addEventListener("click", (event) => {
    const at = dragged ? -1 : nearest(event, 24);
    if (at >= 0) hold(at);
  });

  // -- with the keyboard
  const WAYS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const towards = ([right, down]) => {
    const from = current >= 0 ? [left[current], top[current]] : [width / 2, height / 2];
    let best = -1, least = Infinity;
    for (let at = 0; at < n; at += 1) {
      if (at === current || !isShown(at)) continue;
      const across = left[at] - from[0], up = top[at] - from[1];
      const along = across * right + up * down;
      const aside = Math.abs(across * down) + Math.abs(up * right);
      if (along > 0.5 && along + 2 * aside < least) { least = along + 2 * aside; best = at; }
    }
    return best;
  };
  const onwards = (step) => {
    for (let at = current + step; at >= 0 && at < n; at += step) if (isShown(at)) return at;
    return -1;
  };
  canvas.addEventListener("keydown", (event) => {
    const { key: pressed } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (WAYS[pressed] || pressed === "PageDown" || pressed === "PageUp") {
      const at = WAYS[pressed] ? towards(WAYS[pressed]) : onwards(pressed === "PageDown" ? 1 : -1);
      if (at >= 0 || current >= 0) walkTo(at >= 0 ? at : current);
    } else if (pressed === "Enter" || pressed === " ") {
      if (current < 0) return;
      hold(current);
      held.focus({ preventScroll: true });
    } else if (pressed === "+" || pressed === "=" || pressed === "-") {
      look(pressed === "-" ? 1 / 1.6 : 1.6, aroundCurrent());
    } else if (pressed === "Escape") {
      current = -1;
      letGo();
      showTip(-1);
      draw();
    } else {
      return;
    }
    event.preventDefault();
  });
  canvas.addEventListener("blur", () => showTip(-1));

  // -- what is shown
  const byLabel = byId("map-label"), byFlag = byId("map-flag"), byName = byId("map-search");
  const sizes = new Map();
  for (const label of data.label) sizes.set(label, (sizes.get(label) || 0) + 1);
  const numbers = [...data.labels.keys(), ...(sizes.has(NONE) ? [NONE] : [])];
  const labelName = (label) => (label === NONE ? "no label" : data.labels[label]);
  for (const label of numbers) {
    byLabel.append(make("option", { value: label }, `${labelName(label)} (${sizes.get(label) || 0})`));
  }
  for (const [word, places] of Object.entries(data.flags)) {
    if (places.length) byFlag.append(make("option", { value: word }, `${word} (${places.length})`));
  }
  const legend = byId("map-legend");
  if (few && numbers.length > 1) {
    for (const label of numbers) {
      const style = `--light: ${colour(label, false)}; --dark: ${colour(label, true)}`;
      const one = button("", () => {
        byLabel.value = byLabel.value === String(label) ? "" : String(label);
        filter();
      }, { "aria-pressed": "false", "data-value": label });
      one.append(make("span", { class: "swatch", style }), labelName(label));
      legend.append(one);
    }
  }
  const MOST_FOUND = 12;
  const filter = () => {
    const label = byLabel.value, flag = byFlag.value, words = byName.value.trim().toLowerCase();
    for (const one of legend.children) one.setAttribute("aria-pressed", String(label === one.dataset.value));
    const every = [...data.path.keys()];
    const flagged = flag ? new Set(data.flags[flag]) : null;
    shown = label === "" && !flagged ? null : new Set(every.filter(
      (at) => (label === "" || data.label[at] === Number(label)) && (!flagged || flagged.has(at)),
    ));
    hits = words ? new Set(every.filter((at) => data.path[at].toLowerCase().includes(words))) : null;
    const left = every.filter(isShown);
    if (current >= 0 && !isShown(current)) current = -1;
    found.replaceChildren();
    if (words) {
      for (const at of left.slice(0, MOST_FOUND)) found.append(make("li", {}, button(data.path[at], () => hold(at))));
      if (left.length > MOST_FOUND) found.append(make("li", {}, `and ${left.length - MOST_FOUND} more`));
    }
    status.textContent = left.length === n ? "" : `${left.length.toLocaleString("en")} of ${counted(n, "picture")}`;
    draw();
  };
  byId("map-controls").addEventListener("submit", (event) => {
    event.preventDefault();
    found.querySelector("button")?.click();
  });
  byLabel.addEventListener("change", filter);
  byFlag.addEventListener("change", filter);
  byName.addEventListener("input", filter);

  // -- axes
  const axisName = (at) => `component ${at + 1}${data.shares[at] === undefined ? "" : ` (${(100 * data.shares[at]).toFixed(1)}%)`}`;
  const chooseAxes = () => {
    x = Number(byId("map-x").value);
    y = Number(byId("map-y").value);
    byId("map-axes").textContent = `Across: ${axisName(x)}. Up: ${axisName(y)}.`;
    showTip(-1);
    redraw();
  };
  for (const [select, chosen] of [[byId("map-x"), x], [byId("map-y"), y]]) {
    axes.forEach((_, at) => select.append(make("option", { value: at }, axisName(at))));
    select.value = chosen;
    select.addEventListener("change", chooseAxes);
  }

  // -- from elsewhere on the page
  const places = new Map(data.path.map((path, at) => [path, at]));
  hooks.toMap = (path, go) => {
    const at = places.get(path);
    if (at === undefined) return false;
    if (!go) return true;
    byLabel.value = byFlag.value = byName.value = "";
    filter();
    hold(at);
    byId("map").scrollIntoView();
    canvas.focus({ preventScroll: true });
    return true;
  };
  hooks.labelToMap = (label) => {
    byLabel.value = String(data.labels.indexOf(label));
    byFlag.value = byName.value = "";
    filter();
    byId("map").scrollIntoView();
    byLabel.focus({ preventScroll: true });
  };
  const known = new Set(data.labels);
  for (const one of document.querySelectorAll(".to-map")) one.hidden = !known.has(one.dataset.label);

  byId("map-controls").hidden = false;
  byId("map-figure").hidden = false;
  document.documentElement.classList.add("mapped");
  chooseAxes();
  new ResizeObserver(redraw).observe(box);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(query).addEventListener("change", draw);
  }
};

unpack(byId("map-data").textContent).then(startMap).catch((error) => {
  byId("map-status").textContent = `The map cannot be drawn here: ${error.message}`;
});
