from tests.support.no_optional_models import no_optional_models

__all__ = ["no_optional_models"]
