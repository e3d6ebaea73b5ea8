"use strict";
/* Small helpers for what is on the page: elements, numbers, names of characters, colours.
   Text always enters as a text node, so whatever a reader types is shown and never run. */

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
function byId(id) {
  return document.getElementById(id);
}

/** Make an element: make("p", {id: "a"}, "text", otherElement). Strings become text nodes. */
function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for the parts of a picture. */
function makeSvg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Set a text only where it differs: a screen reader then announces what really changed. */
function say(id, text, bad = false) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("bad", bad);
}

/** Tell a screen reader what a choice did; nothing is to be seen of it. */
function announce(text) {
  say("announcer", text);
}

/** A table row: the first cell is a header, the others are numbers or text. */
function tableRow(cells, attributes = {}, tag = "td") {
  const [first, ...others] = cells;
  const head = make("th", { scope: "row" }, String(first));
  return make(
    "tr",
    attributes,
    head,
    ...others.map((cell) => (cell instanceof Node ? cell : make(tag, {}, String(cell)))),
  );
}

/** A table's head. */
function tableHead(names) {
  return make(
    "thead",
    {},
    make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))),
  );
}

/** A number for readers: fixed digits, and a real minus sign. */
function show(value, digits = 3) {
  if (value === -Infinity) return "−∞";
  if (!Number.isFinite(value)) return "not finite";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** A token as one sees it: blanks and line breaks get a sign. */
function showToken(text) {
  if (text === "") return "∅";
  return text.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥");
}

/** A token as one says it, for screen readers and sentences. */
function nameToken(text) {
  const names = { " ": "space", "\n": "line break", "\t": "tab" };
  return names[text] ?? `“${showToken(text)}”`;
}

/** Is the page dark now? The switch decides, or else the system. */
function isDark() {
  const chosen = document.documentElement.style.colorScheme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/* Colours. Weights: one hue, from nearly the paper to the strongest contrast with it; only the
   lightness says how much, so it reads without colour vision. Signed numbers: orange for minus,
   blue for plus, which all common kinds of colour blindness tell apart. */
const WEIGHT_STOPS = {
  light: [
    [243, 246, 250],
    [94, 160, 214],
    [8, 40, 92],
  ],
  dark: [
    [29, 35, 42],
    [47, 109, 179],
    [232, 244, 255],
  ],
};
const SIGNED_STOPS = {
  light: [
    [179, 88, 6],
    [246, 246, 244],
    [24, 92, 168],
  ],
  dark: [
    [240, 150, 70],
    [38, 44, 51],
    [110, 175, 245],
  ],
};
const MASKED = { light: [211, 209, 204], dark: [65, 69, 75] };

function theme() {
  return isDark() ? "dark" : "light";
}

/** The colour at t between 0 and 1 along three stops. */
function between(stops, t) {
  const place = Math.min(Math.max(t, 0), 1) * 2;
  const from = stops[Math.min(Math.floor(place), 1)];
  const to = stops[Math.min(Math.floor(place), 1) + 1];
  const part = place - Math.min(Math.floor(place), 1);
  return from.map((value, i) => Math.round(value + part * (to[i] - value)));
}

/** The colour of a weight. The root spreads small weights: 0.01 can still be told from 0. */
function weightColour(weight) {
  return between(WEIGHT_STOPS[theme()], Math.sqrt(weight));
}

/** The colour of a signed number, where `largest` gets the strongest one. */
function signedColour(value, largest) {
  return between(SIGNED_STOPS[theme()], 0.5 + value / (2 * (largest || 1)));
}

/** Shade an element, with black or white text on it, whichever has more contrast. */
function shade(element, colour) {
  const [red, green, blue] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  element.style.setProperty("--shade", `rgb(${colour.join(" ")})`);
  element.style.setProperty("--on-shade", luminance > 0.179 ? "#000" : "#fff");
}

/** A row of numbers as shaded cells. */
function numberCells(numbers, digits = 2) {
  const largest = Math.max(...numbers.map(Math.abs));
  const cells = numbers.map((value) => {
    const cell = make("span", {}, show(value, digits));
    shade(cell, signedColour(value, largest));
    return cell;
  });
  return make("div", { class: "cells" }, ...cells);
}
