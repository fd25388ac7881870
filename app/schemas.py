"""Request and response bodies of the HTTP contract; the source of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from app.domain import Action, Filters, Kind

Query = Annotated[str, Field(min_length=1, max_length=256)]
Timings = Annotated[dict[str, float], Field(description="milliseconds by stage", examples=[{"speller": 4.1, "total": 4.3}])]


def _number(given: object) -> object:
    """JSON has numbers, so 5 and 5.0 are one, "5" and true are none; pydantic by itself takes both or neither."""
    if isinstance(given, (bool, str)):
        raise ValueError("a number is expected")
    return given


Number = BeforeValidator(_number)  # behind the limits: before them it keeps them out of the document
Year = Annotated[int, Field(ge=0, le=9999), Number]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class QueryBody(Body):
    """One query or up to 64."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"query": "bilie jean micheal jackson"}, {"queries": ["smels like teen sprit", "beyonce"]}],
            "oneOf": [  # of the two exactly one is given and not null
                {"required": ["query"], "properties": {"query": {"type": "string"}}},
                {"required": ["queries"], "properties": {"queries": {"type": "array"}}},
            ],
        },
    )

    query: Query | None = None
    queries: Annotated[list[Query], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> QueryBody:
        if (self.query is None) == (self.queries is None):
            raise ValueError("give either `query` or `queries`")
        return self

    def texts(self) -> list[str]:
        return self.queries if self.queries is not None else [self.query or ""]


class YearRange(Body):
    gte: Year | None = None
    lte: Year | None = None


class FilterBody(Body):
    """Conditions every hit meets; values of one list are alternatives."""

    kind: list[Kind] = Field(default_factory=list, max_length=16)
    genres: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(default_factory=list, max_length=64)
    year: YearRange | None = None

    def to_filters(self) -> Filters:
        year = self.year or YearRange(gte=None, lte=None)
        return Filters(tuple(self.kind), tuple(g.lower() for g in self.genres), year.gte, year.lte)


class SearchBody(Body):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"query": "bilie jean micheal jackson", "limit": 5, "filters": {"kind": ["track"]}}]},
    )

    query: Query
    limit: Annotated[int, Field(ge=1, le=100), Number] = 10
    filters: FilterBody = Field(default_factory=FilterBody)


class OpenAIEmbeddingsBody(BaseModel):
    """OpenAI's embeddings request; members this service has no use for (`model`, `user`, …) are accepted and ignored."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"input": "sad songs for a rainy day", "model": "searchbar-embedder"}]}
    )

    input: Query | Annotated[list[Query], Field(min_length=1, max_length=64)]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1), Number] | None = Field(
        None, description="the first so many, of length 1 again; all when not given"
    )

    @field_validator("input", mode="before")
    @classmethod
    def _no_tokens(cls, given: object) -> object:
        first = given[0] if isinstance(given, list) and given else given
        if isinstance(first, int) or (isinstance(first, list) and first and isinstance(first[0], int)):
            raise ValueError(
                "token ids of another model mean nothing here: send text (LangChain: check_embedding_ctx_length=False)"
            )
        return given


class AlternativeOut(BaseModel):
    text: str
    confidence: float


class CorrectionOut(BaseModel):
    query: str
    corrected: str
    changed: bool
    confidence: float = Field(ge=0, le=1)
    action: Action
    alternatives: list[AlternativeOut]


class SpellcheckOut(BaseModel):
    results: list[CorrectionOut]
    timings_ms: Timings


class EmbedOut(BaseModel):
    model: str
    dimensions: int
    embeddings: list[list[float]]
    timings_ms: Timings


class HitOut(BaseModel):
    id: str
    kind: Kind
    title: str
    artist: str
    album: str
    year: int | None
    score: float
    matched_by: list[str]


class SearchOut(BaseModel):
    query: str
    corrected: str
    action: Action
    hits: list[HitOut]
    degraded: list[str]
    timings_ms: Timings


class RejectedOut(BaseModel):
    line: int
    reason: str


class BulkOut(BaseModel):
    upserted: int
    rejected: list[RejectedOut] = Field(description="the first 100")
    rejected_total: int
    items: int = Field(description="how many the catalogue holds now")


class ItemOut(BaseModel):
    id: str
    kind: Kind
    title: str
    artist: str
    album: str
    year: int | None
    genres: list[str]
    moods: list[str]
    popularity: float
    extra: dict[str, Any]


class CompletionOut(BaseModel):
    kind: Kind
    text: str
    artist: str


class SuggestOut(BaseModel):
    query: str
    completions: list[CompletionOut]
    timings_ms: Timings


class OpenAIEmbedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class OpenAIUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class OpenAIEmbeddingsOut(BaseModel):
    object: Literal["list"]
    data: list[OpenAIEmbedding]
    model: str
    usage: OpenAIUsage


class Health(BaseModel):
    status: str
    checks: dict[str, bool] = Field(default_factory=dict)


class Problem(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
