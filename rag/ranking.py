"""Rank the candidate turns for a question: compute each candidate's features and sum them with weights.

The features cover meaning (the cosine of the turn, and of the turn with the one before it), words (BM25 of its whole
episode, and words similar to the question's in the turn and around it), who said it, when it was said, which days it
speaks of, and what kind of turn it is.
Okapi BM25 follows Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009), with k1 = 1.2, b = 0.75.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rag.catalogue import Catalogue
from rag.claims import Claim
from rag.days import Span
from rag.embedding import LONGEST
from rag.grammar import claims
from rag.languages import Language, language_of
from rag.question import Question
from rag.store import Row
from rag.vocabulary import Vocabulary, best_likeness
from rag.when import phrases

Floats = NDArray[np.float64]
Positions = NDArray[np.intp]

K1, B = 1.2, 0.75

WEIGHTS: dict[str, float] = {
    "meaning": 0.225,
    "meaning_in_context": 0.576,
    "meaning_of_episode": 0.491,
    "words_of_episode": 1.884,
    "related": 2.086,
    "related_around": 3.164,
    "said_by_named": 0.875,
    "asks": -0.623,
    "content": 0.603,
    "time_wanted": 1.665,
    "name_wanted": 1.354,
    "said_then": 3.757,
    "speaks_of_then": 1.351,
}
"""Fitted by `benchmarks/memory.py --fit` on three sets of conversations with a listwise logistic regression; see
docs/MEMORY.md."""


VAGUE = 40
"""Days of a span in a turn above which it tells nothing, unless as many were asked for."""
RELEVANT = 7.0
"""How far below the best score a turn may lie and still be returned: odds of one to a thousand."""


@dataclass(frozen=True)
class WordHits:
    """Where a question's terms occur: `positions[term]` is ascending, `idf[term]` the term's rarity."""

    positions: Mapping[str, Positions]
    idf: Mapping[str, float]

    @classmethod
    def of(cls, postings: Mapping[str, NDArray[np.int64]], catalogue: Catalogue) -> WordHits:
        positions = {term: catalogue.positions(seqs) for term, seqs in postings.items()}
        total = len(catalogue)
        often = {term: max(len(found), 1) for term, found in positions.items()}  # an absent word counts as rare
        idf = {term: float(np.log1p((total - held + 0.5) / (held + 0.5))) for term, held in often.items()}
        return cls(positions, idf)

    def bm25(self, catalogue: Catalogue) -> Floats:
        """Return the score of every turn by itself: [turns]."""
        scores = np.zeros(len(catalogue))
        lengths = catalogue["words"]
        usual = max(float(lengths.mean()), 1.0) if len(lengths) else 1.0
        for term, found in self.positions.items():
            scores[found] += self.idf[term] * _saturated(1.0, lengths[found] / usual)
        return scores

    def rare(self, catalogue: Catalogue) -> NDArray[np.bool_]:
        """Return which terms occur in at most twenty turns, or in at most 1 % of them: [terms]."""
        most = max(20, len(catalogue) // 100)
        return np.array([len(found) <= most for found in self.positions.values()], dtype=np.bool_)

    def counts(self, catalogue: Catalogue, candidates: Positions) -> NDArray[np.float64]:
        """Return in how many of the turn and its two neighbours each term occurs: [terms, candidates]."""
        around = [catalogue["before"][candidates], candidates, catalogue["after"][candidates]]
        rows = [sum(_member(where, found) for where in around) for found in self.positions.values()]
        return np.array(rows, dtype=np.float64).reshape(len(self.positions), len(candidates))

    def episodes(self, catalogue: Catalogue, candidates: Positions) -> Floats:
        """Return the BM25 score of each candidate's episode: [candidates]."""
        lengths = catalogue.episode_words
        usual = max(float(lengths.mean()), 1.0) if len(lengths) else 1.0
        own, scores = catalogue["episode"][candidates], np.zeros(len(candidates))
        for found in self.positions.values():
            counts = np.bincount(catalogue["episode"][found], minlength=len(lengths))
            held = int((counts > 0).sum())
            idf = float(np.log1p((len(lengths) - held + 0.5) / (held + 0.5)))
            scores += idf * _saturated(counts[own], lengths[own] / usual)
        return scores


def _saturated(count: Floats | float, length: Floats) -> Floats:
    return np.asarray(count * (K1 + 1) / (count + K1 * (1 - B + B * length)))


def _member(values: Positions, ascending: Positions) -> Floats:
    if not len(ascending):
        return np.zeros(len(values))
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[at] == values, dtype=np.float64)


def sketch(
    question: Question,
    catalogue: Catalogue,
    candidates: Positions,
    *,
    meaning: Mapping[int, float],
    in_context: Mapping[int, float],
    hits: WordHits,
) -> dict[str, Floats]:
    """Return the features [candidates] that can be computed without reading the texts.

    `meaning` and `in_context` map positions to cosines and hold only the nearest turns.
    """
    turn, context = _dense(meaning, candidates), _dense(in_context, candidates)
    all_idf = sum(hits.idf.values()) or 1.0
    counts = hits.counts(catalogue, candidates)
    idf = np.array(list(hits.idf.values()))[:, None] if hits.idf else np.zeros((0, 1))
    alone = np.array([_member(candidates, found) for found in hits.positions.values()]).reshape(counts.shape)
    episodes = hits.episodes(catalogue, candidates)
    about = [catalogue.speakers[speaker] for speaker in question.about if speaker in catalogue.speakers]
    named = np.isin(catalogue["speaker"][candidates], about).astype(np.float64)
    return {
        "meaning": turn * 10,
        "meaning_in_context": context * 10,
        "meaning_of_episode": _highest(turn, catalogue["episode"][candidates]) * 10,
        "words_covered": (alone * idf).sum(0) / all_idf,
        "words_rare": alone[hits.rare(catalogue)].max(0, initial=0.0),
        "words_covered_around": ((counts > 0) * idf).sum(0) / all_idf,
        "words_of_episode": episodes / max(float(episodes.max(initial=0.0)), 1e-6),
        "said_by_named": (2 * named - 1) * (len(question.about) == 1),
        "content": np.log1p(catalogue["words"][candidates].astype(np.float64)),
        **_said(question, catalogue["day"][candidates]),
    }


@dataclass(frozen=True)
class Candidate:
    """A turn whose text was read, with properties of the text that hold for any question, computed on first use."""

    row: Row
    words: NDArray[np.intp]
    """The numbers of its words in the vocabulary."""
    learnt: bool = True
    """Whether the vocabulary holds all of its words; it lacks those of a turn that was just imported."""

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        return tuple(claims(self.row.text[:LONGEST]))

    @cached_property
    def language(self) -> Language | None:
        return language_of(self.row.text[:LONGEST])

    @property
    def asks(self) -> bool:
        return self.row.text.rstrip().endswith(("?", "？"))

    @cached_property
    def holds_time(self) -> bool:
        if self.language is not None:
            return self.language.holds_time(self.row.text[:LONGEST])
        return bool(_TIME.search(self.row.text))

    @cached_property
    def told(self) -> tuple[Span, ...]:
        """The days the turn speaks of."""
        day, text = self.row.at.date(), self.row.text[:LONGEST]
        named = phrases(text, day) if self.language is None else self.language.phrases(text, day)
        return tuple(phrase.span for phrase in named)

    @cached_property
    def holds_name(self) -> bool:
        return bool(_NAME.search(self.row.text))


def describe(
    question: Question,
    catalogue: Catalogue,
    candidates: Positions,
    around: Mapping[int, Candidate],
    *,
    hits: WordHits,
    vocabulary: Vocabulary,
) -> dict[str, Floats]:
    """Return the features [candidates] of the texts. `around` holds candidates, those before and those after."""
    turns = [around[here] for here in candidates.tolist()]
    nowhere = np.zeros(len(turns))
    return {
        **_related(catalogue, candidates, around, hits, vocabulary),
        "asks": _where(turn.asks for turn in turns),
        "time_wanted": _where(turn.holds_time for turn in turns) if question.wants_time else nowhere,
        "name_wanted": _where(turn.holds_name for turn in turns) if question.wants_name else nowhere,
        "speaks_of_then": _meant(question, turns),
    }


def score(features: Mapping[str, Floats], weights: Mapping[str, float] = WEIGHTS) -> Floats:
    """Return scores [candidates], higher is better: 1 more multiplies the odds by e. Missing features count as 0."""
    known = [weight * features[name] for name, weight in weights.items() if name in features]
    return np.asarray(sum(known, np.zeros(1)))


def fits(question: Question, features: Mapping[str, Floats]) -> bool:
    """Whether anything bears on the question at all, by its meaning, its telling words or the day it was said.

    99 % of LoCoMo's questions find a cosine above 0.44 in their own conversation. Questions that people ask about short
    talks (benchmarks/talks) sometimes find only 0.25, and a third of general questions reach that in any talk. But if
    a question mentions "my" or "us", what was said before is relevant more often than not.
    """
    near = features["meaning"] >= (2.5 if question.personal else 3.7)
    worded = (features["words_covered"] >= 0.3) & (features["words_rare"] > 0)
    return bool((near | worded | (features["said_then"] > 0)).any())


def _dense(values: Mapping[int, float], candidates: Positions) -> Floats:
    """Return the values as an array; a candidate that is not among the nearest gets the value of the farthest one."""
    floor = min(values.values(), default=0.0)
    return np.array([values.get(here, floor) for here in candidates.tolist()], dtype=np.float64)


def _where(holds: Iterable[bool]) -> Floats:
    return np.fromiter(holds, dtype=np.float64)


def _highest(values: Floats, groups: NDArray[np.int32]) -> Floats:
    """Return the highest value in each candidate's group: [candidates]."""
    if not len(values):
        return values
    _, member = np.unique(groups, return_inverse=True)
    highest = np.full(member.max() + 1, -np.inf)
    np.maximum.at(highest, member, values)
    return highest[member]


def _related(
    catalogue: Catalogue,
    candidates: Positions,
    around: Mapping[int, Candidate],
    hits: WordHits,
    vocabulary: Vocabulary,
) -> dict[str, Floats]:
    """Score words similar to the question's, in the turn alone and in the turn with its neighbours."""
    here = {position: index for index, position in enumerate(around)}
    numbers = [turn.words for turn in around.values()]
    best, weights = best_likeness(vocabulary, list(hits.idf), np.array(list(hits.idf.values())), numbers)
    unlearnt = [index for index, turn in enumerate(around.values()) if not turn.learnt]
    if unlearnt:  # a word fully matches itself, with a vector or without
        places = np.array(list(around), dtype=np.intp)[unlearnt]
        same = np.array([_member(places, found) for found in hits.positions.values()]).reshape(-1, len(unlearnt))
        best[:, unlearnt] = np.maximum(best[:, unlearnt], same)
        weights = np.array(list(hits.idf.values()))
    own, before, after = (
        np.array([here.get(position, -1) for position in where.tolist()], dtype=np.intp)
        for where in (candidates, catalogue["before"][candidates], catalogue["after"][candidates])
    )
    padded = np.concatenate([best, np.zeros((len(best), 1))], axis=1)  # column -1: no neighbour
    widest = np.maximum(np.maximum(padded[:, own], padded[:, before]), padded[:, after])
    share = (weights / (weights.sum() or 1.0))[:, None]
    return {"related": (padded[:, own] * share).sum(0), "related_around": (widest * share).sum(0)}


def _said(question: Question, days: NDArray[np.int32]) -> dict[str, Floats]:
    """Score turns that were said on the days asked for."""
    then = np.zeros(len(days))
    for day in np.unique(days) if question.spans else ():
        on = date.fromordinal(int(day))
        then[days == day] = any(asked.overlaps(Span(on, on)) for asked in question.spans)
    return {"said_then": then}


def _meant(question: Question, turns: Sequence[Candidate]) -> Floats:
    """Score turns that speak of the days asked for, unless so vaguely that it tells nothing."""
    meant = np.zeros(len(turns))
    for number, turn in enumerate(turns if question.spans else ()):
        meant[number] = any(
            asked.overlaps(span)
            for asked in question.spans
            for span in turn.told
            if span.days <= max(VAGUE, asked.days)
        )
    return meant


_TIME = re.compile(
    r"\b([^\W_]+day|tonight|tomorrow|last|next|ago|weeks?|weekend|months?|years?|since|recently|soon|morning|january"
    r"|february|march|april|june|july|august|september|october|november|december|\d{4}|\d+(st|nd|rd|th))\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+|\"|“")
