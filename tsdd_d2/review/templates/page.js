"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const { dataSet, run, earlierVetoes } = document.body.dataset;
  const cards = [...document.querySelectorAll(".card")];
  const viewer = byId("viewer");
  const storageKey = `tsdd_d2-review-${run}`;
  let decisions = {}; // annotation id -> "accept" or "veto"
  let shown = cards; // in their order on the page
  let current = null; // the card that the keys act on
  let enlarged = null; // the card in the viewer
  const undoable = []; // [card, what was decided before], since the page was loaded

  // ---- what is decided

  function load() {
    try {
      decisions = JSON.parse(localStorage.getItem(storageKey)) || decisions;
    } catch {
      tellThatNothingIsStored();
    }
  }

  function store() {
    try {
      localStorage.setItem(storageKey, JSON.stringify(decisions));
    } catch {
      tellThatNothingIsStored();
    }
  }

  function tellThatNothingIsStored() {
    byId("notice").textContent =
      "This browser keeps no data for this page: download the vetoes before you close it.";
  }

  function decide(card, decision) {
    undoable.push([card, decisions[card.dataset.id]]);
    set(card, decision);
  }

  function undo() {
    if (!undoable.length) return;
    const [card, before] = undoable.pop();
    set(card, before);
    if (shown.includes(card)) choose(card);
  }

  function set(card, decision) {
    load(); // the page may be open twice
    if (decision) decisions[card.dataset.id] = decision;
    else delete decisions[card.dataset.id];
    store();
    mark(card);
    report();
  }

  function mark(card) {
    const decision = decisions[card.dataset.id] || "";
    card.dataset.decision = decision;
    const buttons = [...card.querySelectorAll("[data-decide]")];
    if (viewer.open && card === current) buttons.push(...viewer.querySelectorAll("[data-decide]"));
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.decide === decision);
  }

  function vetoes() {
    const vetoed = cards.filter((card) => decisions[card.dataset.id] === "veto");
    return [...JSON.parse(earlierVetoes), ...vetoed.map((card) => JSON.parse(card.dataset.veto))];
  }

  function report() {
    const source = byId("source").value;
    const counted = cards.filter((card) => !source || card.dataset.source === source);
    const reviewed = counted.filter((card) => decisions[card.dataset.id]);
    const vetoed = reviewed.filter((card) => decisions[card.dataset.id] === "veto");
    byId("bar").max = Math.max(counted.length, 1);
    byId("bar").value = reviewed.length;
    byId("status").textContent =
      `${reviewed.length} of ${counted.length} reviewed, ${vetoed.length} vetoed; ${shown.length} shown`;
    byId("download").textContent = `Download vetoes (${vetoes().length})`;
  }

  function download() {
    const content = { data_set: dataSet, run, vetoes: vetoes() };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
    link.download = `vetoes_${dataSet}_${run}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // ---- order and filters

  // A number that is missing comes last.
  const number = (card, key) => (card.dataset[key] === "" ? NaN : Number(card.dataset[key]));
  const ascending = (a, b) => (Number.isNaN(a) - Number.isNaN(b)) || a - b || 0;
  const byPatient = (a, b) => a.dataset.patient.localeCompare(b.dataset.patient, undefined, { numeric: true });
  const ORDERS = {
    drift: (a, b) => ascending(-number(a, "drift"), -number(b, "drift")) || byPatient(a, b),
    gain: (a, b) => ascending(number(a, "gain"), number(b, "gain")) || byPatient(a, b),
    "gain-largest": (a, b) => ascending(-number(a, "gain"), -number(b, "gain")) || byPatient(a, b),
    patient: byPatient,
  };

  function passes(card) {
    const { source, patient } = card.dataset;
    const wanted = Object.fromEntries(
      ["source", "decision", "class", "patient", "min-drift", "max-gain"].map((id) => [id, byId(id).value.trim()])
    );
    const exact = cards.some((x) => x.dataset.patient === wanted.patient);
    return (
      (!wanted.source || source === wanted.source) &&
      (!wanted.decision || (decisions[card.dataset.id] || "open") === wanted.decision) &&
      (!wanted.class || card.dataset.class === wanted.class) &&
      (exact ? patient === wanted.patient : patient.startsWith(wanted.patient)) &&
      (wanted["min-drift"] === "" || number(card, "drift") >= Number(wanted["min-drift"])) &&
      (wanted["max-gain"] === "" || number(card, "gain") <= Number(wanted["max-gain"]))
    );
  }

  // A decision does not call this: a card that has just been decided stays in sight.
  function arrange() {
    cards.sort(ORDERS[byId("sort").value]);
    shown = cards.filter(passes);
    for (const card of cards) card.hidden = true;
    for (const card of shown) card.hidden = false;
    // a key must not decide on what nobody sees
    if (!shown.includes(current)) current = null;
    byId("cards").append(...cards);
    report();
  }

  // ---- moving about

  function choose(card) {
    current = card;
    if (viewer.open) fillViewer();
    else card.focus();
    card.scrollIntoView({ block: "nearest" });
  }

  function go(step) {
    if (!shown.length) return;
    const position = shown.indexOf(current);
    const next = position < 0 ? 0 : Math.min(Math.max(position + step, 0), shown.length - 1);
    choose(shown[next]);
  }

  function decideAndGoOn(decision) {
    decide(current, decision);
    go(1);
  }

  function openViewer(card) {
    current = card;
    viewer.showModal();
    fillViewer();
  }

  function fillViewer() {
    enlarged = current;
    byId("viewer-name").textContent = current.querySelector("h2").textContent;
    byId("viewer-image").replaceChildren(current.querySelector("svg").cloneNode(true));
    byId("viewer-facts").innerHTML = current.querySelector(".facts").innerHTML;
    mark(current);
  }

  function showBoxes() {
    document.body.classList.toggle("without-boxes", !byId("boxes").checked);
  }

  const KEYS = {
    j: () => go(1),
    k: () => go(-1),
    a: () => current && decideAndGoOn("accept"),
    v: () => current && decideAndGoOn("veto"),
    u: undo,
    e: () => current && !viewer.open && openViewer(current),
    b: () => byId("boxes").click(),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("select, input:not([type=checkbox])");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || !byId("shortcuts").checked) return;
    if (!(event.key in KEYS)) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  byId("cards").addEventListener("focusin", (event) => {
    current = event.target.closest(".card");
  });

  byId("cards").addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (!card) return;
    const decision = event.target.closest("[data-decide]")?.dataset.decide;
    if (decision) decide(card, decisions[card.dataset.id] === decision ? null : decision);
    else if (event.target.closest(".enlarge")) openViewer(card);
  });

  viewer.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.decide) {
      const pressed = button.getAttribute("aria-pressed") === "true";
      if (pressed) decide(current, null);
      else decideAndGoOn(button.dataset.decide);
    } else if (button.dataset.go) go(Number(button.dataset.go));
    else viewer.close();
  });
  // the browser has given the focus back to the card that was enlarged first
  viewer.addEventListener("close", () => choose(enlarged));

  window.addEventListener("storage", (event) => {
    if (event.key !== storageKey) return;
    load();
    cards.forEach(mark);
    report();
  });

  for (const id of ["source", "sort", "decision", "class"]) byId(id).addEventListener("change", arrange);
  for (const id of ["patient", "min-drift", "max-gain"]) byId(id).addEventListener("input", arrange);
  byId("boxes").addEventListener("change", showBoxes);
  byId("download").addEventListener("click", download);

  load();
  cards.forEach(mark);
  showBoxes();
  arrange();
})();
