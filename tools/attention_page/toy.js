"use strict";
/* Words first: attention among five words, with numbers set by hand so that each has a meaning.

       q = x W_q      k = x W_k      v = x W_v
       weights = softmax(q k^T / sqrt(d_k)),  output = weights v          no mask

   A word is a row of four features. W_k is the identity: a word is found by what it is. W_q is what
   a word of each kind looks for. W_v is what it hands over: how something looks, how it moves. */

const TOY_WORDS = ["The", "quick", "brown", "fox", "jumps"];
const TOY_FEATURES = ["colour", "manner", "thing", "action"];
const TOY_VALUES = ["looks", "motion"];

const TOY_X = [
  [0, 0, 0, 0], // The: none of the four
  [0, 1, 0, 0], // quick: a manner
  [1, 0, 0, 0], // brown: a colour
  [0, 0, 1, 0], // fox: a thing
  [0, 0, 0, 1], // jumps: an action
];

const TOY_W_Q = [
  [0, 0, 4, 0], // a colour looks for the thing that has it
  [0, 0, 0, 4], // a manner looks for the action done in it
  [4, 2, 0, 4], // a thing looks for its colour and its action, and a little for its manner
  [0, 2, 4, 0], // an action looks for the thing that does it, and a little for its manner
];

const TOY_W_V = [
  [6, 0], // a colour says how it looks
  [0, 3], // a manner says a little about how it moves
  [0, 0],
  [0, 6], // an action says how it moves
];

/** x W: a row of features times a matrix. */
function toyProject(x, W) {
  return W[0].map((_, column) => x.reduce((sum, value, row) => sum + value * W[row][column], 0));
}

/** What word i computes: its query, and for every word score, scaled score and weight. */
function toyAttention(i, W_q) {
  const query = toyProject(TOY_X[i], W_q);
  const scores = TOY_X.map((key) => key.reduce((sum, value, m) => sum + value * query[m], 0));
  const scaled = scores.map((score) => score / Math.sqrt(TOY_FEATURES.length));
  const largest = Math.max(...scaled);
  const exponentials = scaled.map((score) => Math.exp(score - largest));
  const total = exponentials.reduce((sum, value) => sum + value, 0);
  const weights = exponentials.map((value) => value / total);
  const values = TOY_X.map((x) => toyProject(x, TOY_W_V));
  const output = toyProject(weights, values);
  return { query, scores, scaled, weights, values, output };
}
