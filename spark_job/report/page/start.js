"use strict";
// What the other scripts of the page share. All of them are one script there, in the order of
// page.py, and nothing but textContent and attributes puts names of files and labels on the page.

const byId = (id) => document.getElementById(id);

const make = (tag, attributes = {}, ...content) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...content);
  return element;
};

const button = (text, action, attributes = {}) => {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", action);
  return element;
};

const SVG = "http://www.w3.org/2000/svg";

// A picture of the page once more, by the id under which it is there; null where there is none.
const drawShot = (id, title, path, label) => {
  if (!id) return null;
  const shot = document.createElementNS(SVG, "svg");
  shot.setAttribute("class", "shot");
  shot.setAttribute("role", "img");
  shot.setAttribute("data-path", path);
  shot.setAttribute("data-label", label);
  const name = document.createElementNS(SVG, "title");
  name.textContent = title;
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#${id}`);
  shot.append(name, use);
  return shot;
};

const counted = (number, one, several = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : several}`;

const announce = (text) => { byId("announcement").textContent = text; };

const batch = document.body.dataset.batch;

// What is reached by a link, or by the Tab key, is not to lie under what stays on the screen.
const nav = document.querySelector("nav"), bar = byId("corrections");
const makeRoom = () => {
  const { style } = document.documentElement;
  style.scrollPaddingTop = getComputedStyle(nav).position === "sticky" ? `${nav.offsetHeight + 8}px` : "0";
  style.scrollPaddingBottom = `${bar.offsetHeight + 8}px`;
};
const room = new ResizeObserver(makeRoom);
room.observe(nav);
room.observe(bar);

const links = new Map([...nav.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(target.id).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-30% 0px -65% 0px" });
for (const id of links.keys()) inView.observe(byId(id));
