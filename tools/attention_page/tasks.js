"use strict";
/* The exercises of the page, and how each is checked: by what the reader did here, and by the
   numbers of the model that is loaded, never by a stored answer.

   A task is {id, title, text, questions, number, watch, check}. `watch` sees every new state and
   keeps what it needs in `notes`; `check(answers, number)` returns {done, says}. */

const TASKS = [
  {
    id: "previous",
    title: "Find a head that looks at the previous token",
    text:
      "How would its square look among all heads? Choose its layer and head above. The " +
      "mask stays causal.",
    check: checkPrevious,
  },
  {
    id: "bidirectional",
    title: "Switch the mask off",
    text:
      "Which cells appear, and what happens to the prediction? Answer first, then switch " +
      "to bidirectional and look, and compare the loss under “Switch heads off”.",
    questions: [
      {
        name: "The cells that appear are",
        options: ["below the diagonal", "on the diagonal", "above the diagonal"],
      },
      { name: "The loss of this text", options: ["falls", "rises", "stays the same"] },
    ],
    watch: watchMasks,
    check: checkBidirectional,
  },
  {
    id: "future",
    title: "Change the future",
    text:
      "Choose a token in the middle of the text, with the causal mask. What will happen " +
      "to its weights if you change what comes after it? Answer, then edit the end of " +
      "the text.",
    questions: [
      {
        name: "Its weights",
        options: ["change a little", "change for the last keys only", "stay the same"],
      },
    ],
    watch: watchFuture,
    check: checkFuture,
  },
  {
    id: "needed",
    title: "Which head is needed most?",
    text:
      "Switch off one head: the one without which the loss of this text rises most. " +
      "Guess from the pictures before you try.",
    check: checkNeeded,
  },
  {
    id: "ratio",
    title: "From scores to weights",
    text: "", // made for the chosen token
    number: "times as much weight",
    check: checkRatio,
  },
  {
    id: "settled",
    title: "When does the model know?",
    text:
      "Choose any token, and read the logit lens. From which line on is the best guess " +
      "the final one, and stays it?",
    choices: settledChoices,
    check: checkSettled,
  },
  {
    id: "one-choice",
    title: "Leave one choice",
    text:
      "Set the sliders so that only one token can be drawn. Then find a second way, with " +
      "another slider. Leave the other two where they were at the start.",
    watch: watchOneChoice,
    check: checkOneChoice,
  },
  {
    id: "average",
    title: "A query that matches nothing",
    text:
      "Among the five words at the top, choose the one whose weights are all equal. Why " +
      "are they?",
    questions: [
      {
        name: "Because",
        options: [
          "its key is zero",
          "its query is zero, so every score is 0",
          "it is the first word",
        ],
      },
    ],
    toy: true,
    check: checkAverage,
  },
];
