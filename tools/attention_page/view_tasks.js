"use strict";
/* The exercises on the page: a card for each, with its questions, a button and a verdict. */

const solved = new Set();

/** One card. */
function taskCard(task) {
  const head = make("h3", { id: `task-${task.id}-title` }, task.title);
  const text = make("p", { class: "task-text" }, task.text);
  const verdict = make("p", { class: "verdict", role: "status" });
  const button = make("button", { type: "button", "aria-describedby": head.id }, "Check");
  const card = make(
    "article",
    { class: "task", id: `task-${task.id}`, "aria-labelledby": head.id },
    head,
    text,
  );
  card.append(...taskQuestions(task), make("div", { class: "buttons" }, button), verdict);
  button.addEventListener("click", () => checkTask(task, card));
  return card;
}

/** Its questions: options to choose from, or a number. */
function taskQuestions(task) {
  const questions = task.choices ? [{ name: "From", options: [] }] : (task.questions ?? []);
  const fields = questions.map((question, q) => {
    const options = question.options.map((option, o) => taskOption(task, q, o, option));
    return make("fieldset", {}, make("legend", {}, question.name), ...options);
  });
  if (task.number) {
    const field = make("input", { type: "number", step: "any", "data-number": task.id });
    fields.push(make("label", {}, field, ` ${task.number}`));
  }
  return fields;
}

function taskOption(task, q, o, text) {
  return make(
    "label",
    {},
    make("input", { type: "radio", name: `${task.id}-${q}`, value: o }),
    ` ${text}`,
  );
}

/** What the reader answered: the index of each chosen option (null: none), and the number. */
function taskAnswers(card) {
  const answers = [...card.querySelectorAll("fieldset")].map((field) => {
    const chosen = field.querySelector("input:checked");
    return chosen ? Number(chosen.value) : null;
  });
  const field = card.querySelector("[data-number]");
  return { answers, number: field && field.value !== "" ? Number(field.value) : NaN };
}

/** Check one exercise, and say the verdict. */
async function checkTask(task, card) {
  const { answers, number } = taskAnswers(card);
  const verdict = await taskVerdict(task, answers, number);
  if (verdict.done) solved.add(task.id);
  card.classList.toggle("done", solved.has(task.id));
  const line = card.querySelector(".verdict");
  line.classList.toggle("right", verdict.done); // a later try may be wrong
  line.textContent = verdict.done ? `Solved. ${verdict.says}` : verdict.says;
  renderTasksDone();
}

async function taskVerdict(task, answers, number) {
  if (!task.toy && !state.model)
    return wrong("This one needs a model: give the page a checkpoint.");
  if (!task.toy && !state.run?.result) return wrong("Type a text first.");
  if (answers.includes(null)) return wrong("Answer first.");
  return task.check(answers, number);
}

function renderTasksDone() {
  say("tasks-done", `${solved.size} of ${TASKS.length} solved`);
}

/** All cards. */
function startTasks() {
  byId("task-list").append(...TASKS.map(taskCard));
  renderTasksDone();
}

/** The options that depend on the model, when one arrives. What was solved was another model's. */
function buildTasks() {
  Object.assign(notes, { runs: new Map(), snapshot: null, future: null, oneChoice: new Set() });
  for (const task of TASKS.filter((one) => !one.toy)) {
    solved.delete(task.id);
    const card = byId(`task-${task.id}`);
    card.classList.remove("done");
    card.querySelector(".verdict").textContent = "";
    if (!task.choices) continue;
    const options = task.choices().map((text, o) => taskOption(task, 0, o, text));
    card.querySelector("fieldset").replaceChildren(make("legend", {}, "From"), ...options);
  }
  renderTasksDone();
}

/** What depends on the chosen token; and every exercise sees the new state. */
function renderTasks() {
  const text = byId("task-ratio").querySelector(".task-text");
  if (text.textContent !== ratioText()) text.textContent = ratioText();
  if (!state.run?.result) return;
  for (const task of TASKS) task.watch?.(state.run);
}
