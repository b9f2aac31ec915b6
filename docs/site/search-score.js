// Ranks pages for readers above decisions, records and the changelog, which say why and when, not how.
"use strict";

const BACKGROUND = /^(decisions\/|records\/|changelog$|contributing$)/;

var Scorer = {
  // As Sphinx has them; see searchtools.js.
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: {0: 15, 1: 5, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,

  // Sphinx sorts by score: what lies in the background keeps its order, below every other page.
  score: ([page, , , , score]) => (BACKGROUND.test(page) ? score - 1000 : score),
};
