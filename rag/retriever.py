"""The retriever: find the turns that bear on a question, best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from rag.asked import Asked
from rag.catalogue import Catalogue
from rag.claims import Claim
from rag.embedding import LONGEST
from rag.forms import Forms
from rag.languages import Language, language_of
from rag.lexical import ASKING, EMPTY, Stemmer, words
from rag.question import Question
from rag.ranking import WEIGHTS, Candidate, Floats, Positions, WordHits, describe, score, sketch
from rag.renewal import COMPARED
from rag.store import Row, TurnStore
from rag.vectors import Nearest
from rag.vocabulary import Vocabulary

BY_WORDS = 80
"""Turns taken because of their words alone."""
BY_DAY = 100
"""Turns taken because they were said on a day asked for; the newest ones."""
LOOKED_AT = 80
"""Candidates whose text is read, chosen by the features that need no text."""
KEPT = 20_000
"""Turns whose texts stay cached once they were read; about a kilobyte each."""
BY_CLAIM = 16
"""Turns taken because they claim what is asked for; the newest ones."""
COMMONEST = 20_000
"""Postings read per word, newest first; a word in more turns than that says little."""


@dataclass(frozen=True)
class Found:
    """The candidates with everything the ranking knows about them. Arrays are [candidates]."""

    question: Question
    rows: list[Row]
    features: dict[str, Floats]
    scores: Floats
    claims: list[tuple[Claim, ...]]
    told: NDArray[np.bool_]
    """Whether the turn claims exactly what was asked for, or that it is over."""


class Retriever:
    """Finds the turns for a question and keeps the store's catalogue. Use it from one thread at a time."""

    def __init__(self, store: TurnStore) -> None:
        self._store = store
        self._stemmer = Stemmer()
        self._catalogue, self._seen = Catalogue(), 0
        self._vocabulary, self._vocabulary_mark = Vocabulary(), 0
        self._forms = Forms(self._vocabulary)
        self._turns: dict[int, Candidate] = {}
        self._rewritten = -1

    def refresh(self) -> None:
        """Read the turns added since the last call, or all of them if one was forgotten or corrected."""
        if self._rewritten != self._store.rewritten:
            self._rewritten = self._store.rewritten
            self._catalogue, self._seen = Catalogue(), 0
            self._vocabulary, self._vocabulary_mark = Vocabulary(), 0
            self._forms = Forms(self._vocabulary)
            self._turns = {}
        self._vocabulary_mark, said, vectors = self._store.vocabulary(after=self._vocabulary_mark)
        self._vocabulary.add(said, vectors)
        entries, self._seen = self._store.entries(after_seq=self._seen)
        self._catalogue.add(entries)

    def unheard(self, query: str) -> list[str]:
        """Return the question's words that have no vector yet because nobody has said them."""
        self.refresh()
        language = language_of(query)
        if language is not None:
            return self._vocabulary.lacking(language.telling(query, ()))
        return self._vocabulary.lacking(word for word in words(query) if word not in ASKING)

    def hear(self, words: list[str], vectors: NDArray[np.float32]) -> None:
        """Add vectors [len(words), dimensions] for these words."""
        if len(vectors):
            self._vocabulary.add(words, vectors.astype(np.float16))

    def find(
        self,
        query: str,
        nearest: Nearest,
        *,
        now: datetime,
        asker: str | None = None,
        exclude_conversation: str | None = None,
        weights: Mapping[str, float] = WEIGHTS,
    ) -> Found:
        self.refresh()
        catalogue = self._catalogue
        question = Question.read(
            query, speakers=catalogue.speakers, asker=asker, today=now.date(), stemmer=self._stemmer
        )
        hits = WordHits.of({term: self._postings(term, question.language) for term in question.terms}, catalogue)
        meaning = {catalogue.position[id]: cosine for id, cosine in nearest.turn.items() if id in catalogue.position}
        in_context = {
            catalogue.position[id]: cosine for id, cosine in nearest.context.items() if id in catalogue.position
        }
        by_words = hits.bm25(catalogue)
        claiming = self._claiming(question)
        candidates = np.union1d(self._candidates(question, by_words, meaning, in_context), claiming)
        if exclude_conversation in catalogue.conversations:
            current = catalogue.conversations[exclude_conversation]
            candidates = candidates[catalogue["conversation"][candidates] != current]
        known = sketch(question, catalogue, candidates, meaning=meaning, in_context=in_context, hits=hits)
        if len(candidates) > LOOKED_AT:
            # Similar words need the text. Without it, only the question's own words are known, and stand in for them.
            least = known | {"related": known["words_covered"], "related_around": known["words_covered_around"]}
            best = np.sort(np.argpartition(-score(least, weights), LOOKED_AT)[:LOOKED_AT])
            best = np.union1d(best, np.nonzero(np.isin(candidates, claiming))[0])
            candidates, known = candidates[best], {name: column[best] for name, column in known.items()}
        around = np.unique(
            np.concatenate([candidates, catalogue["before"][candidates], catalogue["after"][candidates]])
        )
        turns = self._looked_at(around[around >= 0])
        features = known | describe(question, catalogue, candidates, turns, hits=hits, vocabulary=self._vocabulary)
        chosen = [turns[here] for here in candidates.tolist()]
        scores = score(features, weights)
        told = np.isin(candidates, claiming)
        if told.any():  # such a turn ranks behind no other
            scores = np.where(told, np.maximum(scores, scores.max()), scores)
        # Only turns that may be recalled; those not read yet are read now, which takes half a millisecond for each.
        likely = np.argsort(-scores)[:COMPARED].tolist()
        held = self._store.claims.of([chosen[index].row.seq for index in likely])
        said: list[tuple[Claim, ...]] = [()] * len(chosen)
        for index in likely:
            seq = chosen[index].row.seq
            said[index] = held[seq] if seq in held else chosen[index].claims
        return Found(question, [turn.row for turn in chosen], features, scores, said, told)

    def _postings(self, term: str, language: Language | None) -> NDArray[np.int64]:
        """Return the ascending seqs of the turns that hold the term in any of its forms."""
        if language is None or language.stem is None:
            return self._store.postings(term, COMMONEST)
        forms = self._forms.of(term, language.stem)
        return np.unique(np.concatenate([self._store.postings(form, COMMONEST) for form in forms]))

    def _claiming(self, question: Question) -> Positions:
        """Return the ascending positions of turns that claim the attribute asked for, of the subject asked about."""
        wanted = question.asked
        if wanted is None or question.spans:  # "What happened to my job in May?" is not about the newest
            return np.empty(0, np.intp)
        speakers = [speaker for speaker in question.about if speaker in self._catalogue.speakers]
        if wanted.subject in {" ".join(words(speaker)) for speaker in speakers}:
            wanted = Asked(wanted.attributes, "")  # "Where does Ann live?" asks for what Ann said of herself
        return self._catalogue.positions(self._store.claims.told(wanted, speakers, BY_CLAIM))

    def _looked_at(self, positions: Positions) -> dict[int, Candidate]:
        """Return the turns at these positions. Each is read once, unless the vocabulary lacks one of its words."""
        kept = {here: turn for here in positions.tolist() if (turn := self._turns.get(here)) is not None}
        unread = np.array([here for here in positions.tolist() if here not in kept], dtype=np.intp)
        if len(self._turns) > KEPT:
            self._turns.clear()
        for here, row in zip(unread.tolist(), self._store.rows_at(self._catalogue["seq"][unread]), strict=True):
            telling = set(words(row.text[:LONGEST])) - EMPTY
            numbers = self._vocabulary.numbers(telling)
            turn = kept[here] = Candidate(row, numbers, learnt=len(numbers) == len(telling))
            if turn.learnt:
                self._turns[here] = turn
        return kept

    def _candidates(
        self, question: Question, by_words: Floats, meaning: Mapping[int, float], in_context: Mapping[int, float]
    ) -> Positions:
        """Return the ascending positions of all turns that any ranking finds, and of the neighbours of the best."""
        catalogue = self._catalogue
        worded = np.nonzero(by_words)[0]
        if len(worded) > BY_WORDS:
            worded = worded[np.argpartition(-by_words[worded], BY_WORDS)[:BY_WORDS]]
        best = np.array([*list(meaning)[:20], *list(in_context)[:20], *worded], dtype=np.intp)
        beside = np.concatenate([catalogue["before"][best], catalogue["after"][best]])
        days = [
            np.nonzero((catalogue["day"] >= span.first.toordinal()) & (catalogue["day"] <= span.last.toordinal()))[0]
            for span in question.spans
            if not span.yearly
        ]
        found = [np.array([*meaning, *in_context], dtype=np.intp), worded, beside, *(day[-BY_DAY:] for day in days)]
        unique = np.unique(np.concatenate(found))
        return unique[unique >= 0]


def reasons(found: Found, index: int) -> str:
    """Say briefly, for people, why a turn was found."""
    value = {name: float(column[index]) for name, column in found.features.items()}
    said = [
        ("meaning", value["meaning"] > 4.0),
        ("words", value["words_covered"] > 0.3),
        ("what was said around it", value["words_covered_around"] > value["words_covered"] + 0.2),
        ("who said it", value["said_by_named"] > 0),
        ("when it was said", value["said_then"] > 0),
        ("the time it is about", value["speaks_of_then"] > 0),
    ]
    return ", ".join(reason for reason, holds in said if holds) or "a similar meaning"
