# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"
# Triton reads these functions' text; their arguments are pointers and numbers that no Python type describes.
"""Device programs of the fused kernels. Every one writes each element of its outputs, and none adds atomically.

Pointers are to contiguous tensors, row by row. Regions are rows (``n``), words are columns (``t``) of the transposed
affinity ``C'``, since tensor cores want 64 rows or more and questions are short.

``G`` attentions (levels) of one batch go through one launch. Their features are ``[S, B, N, D]``: either ``S`` is 1
and all levels look at the same features; or ``S`` is ``G`` and each level has its own. Programs of all levels that read
the same tile are neighbours on the grid, so that it comes from memory once and from cache for the others. The grid has
one axis, since the others end at 65535.
"""

from dataclasses import dataclass, fields

import triton
import triton.language as tl


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a program is compiled for; a program reads what it needs, and each field is a constant to it."""

    acc: tl.dtype
    """What sums are kept in."""
    widen: bool
    """Whether 16-bit numbers need help, since the interpreter multiplies and rounds bfloat16 as it should not."""
    approximate: bool
    """Whether tanh is one instruction."""
    levels: int = 1
    """How many levels share the features, G / S."""
    guide: str = "nothing"
    """R of the scored product: ``nothing``, ``vector`` [G, B, K], ``matrix`` [G, B, N, K], or ``affinity``: C' Y."""
    pool: bool = False
    """Whether the scored product goes on to softmax and pooling."""
    slope: bool = False
    """Whether the gradient before the affinity's tanh stands in place of the affinity."""
    formed: bool = False
    """Whether the affinity is written where it is formed first, for the programs that follow."""
    saturating: bool = False
    """Whether the affinity has its tanh."""
    dropout: float = 0.0
    """Share of the hidden map that is dropped."""
    rows: int = 16
    outer: int = 16
    inner: int = 16
    words: int = 16
    one_block: bool = True
    """Whether all words fit one block."""
    standing: bool = False
    """Whether a tile of rows is loaded once, in its whole width, and serves every product."""
    whole: int = 16
    """Columns of a tile that stands: the features' width or more."""

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, tl.constexpr(getattr(self, field.name)))


@triton.jit
def _tanh(x, form: tl.constexpr):
    if form.approximate:
        # one instruction, good to 2^-11: as fine as the 16-bit types that it is used for
        return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    # of the magnitude, so that no exponential overflows
    small = tl.exp(-2 * tl.abs(x))
    size = (1 - small) / (1 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def _dot(left, right, total, form: tl.constexpr):
    # the interpreter multiplies the bit patterns of bfloat16
    if form.widen:
        return tl.dot(left.to(tl.float32), right.to(tl.float32), total)
    return tl.dot(left, right, total, input_precision="tf32x3", out_dtype=total.dtype)


@triton.jit
def _narrow(values, dtype: tl.constexpr, widen: tl.constexpr):
    """In the type in which it is stored or multiplied."""
    if widen and dtype == tl.bfloat16 and values.dtype == tl.float32:
        # the interpreter cuts off what a device rounds to nearest: round first
        bits = values.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
        values = bits.to(tl.float32, bitcast=True)
    return values.to(dtype)


@triton.jit
def _rows(pointer, rows, chosen, columns, width, stride):
    """``[rows, columns]`` of a matrix of that width, zero where a row is not chosen."""
    return tl.load(
        pointer + rows.to(tl.int64)[:, None] * stride + columns[None, :],
        mask=chosen[:, None] & (columns < width)[None, :],
        other=0.0,
    )


@triton.jit
def _columns(pointer, rows, chosen, columns, width, stride):
    """The same, transposed: ``[columns, rows]``."""
    return tl.load(
        pointer + rows.to(tl.int64)[None, :] * stride + columns[:, None],
        mask=chosen[None, :] & (columns < width)[:, None],
        other=0.0,
    )


@triton.jit
def _tile(valid_pointer, examples, count, shared: tl.constexpr, form: tl.constexpr):
    """A program's place in ``[G / shared, B, tiles, shared]``, its rows, and which of these exist and are valid."""
    tiles = tl.cdiv(count, form.rows)
    place = tl.program_id(0)
    step = place % shared
    place = place // shared
    tile = place % tiles
    place = place // tiles
    level, example = (place // examples).to(tl.int64) * shared + step, (place % examples).to(tl.int64)
    rows = tile * form.rows + tl.arange(0, form.rows)
    inside = rows < count
    valid = tl.load(valid_pointer + example * count + rows, mask=inside, other=0) != 0
    return level, example, tile, rows, inside, valid


@triton.jit
def _tile_of(features, rows, valid, width, form: tl.constexpr):
    """The rows in their whole width, ``[rows, whole]``, if the tile stands; else nothing."""
    if form.standing:
        tile = _rows(features, rows, valid, tl.arange(0, form.whole), width, width)
        # chosen once more, to no other effect than that it stays in registers: a left operand that comes straight from
        # memory is put into shared memory, where every step reads it again and where the weights' blocks should be
        return tl.where(valid[:, None], tile, 0.0)
    else:  # noqa: RET505  # for Triton, what follows a return is another return of this function
        return 0


@triton.jit
def _product(features, tile, others, rows, valid, columns, chosen, width, total, form: tl.constexpr):
    """``total`` and ``X A'``: rows of the features with ``columns``, which are rows of the others."""
    if form.standing:
        total = _dot(tile, _columns(others, columns, chosen, tl.arange(0, form.whole), width, width), total, form)
    else:
        for start in range(0, width, form.inner):
            inner = start + tl.arange(0, form.inner)
            block = _rows(features, rows, valid, inner, width, width)
            total = _dot(block, _columns(others, columns, chosen, inner, width, width), total, form)
    return total


@triton.jit
def _affinity(image, tile, queries, rows, valid, words, present, width, form: tl.constexpr):
    """C' ``[rows, words]`` of one level of one example."""
    total = tl.zeros([form.rows, form.words], dtype=form.acc)
    total = _product(image, tile, queries, rows, valid, words, present, width, total, form)
    if form.saturating:
        total = _tanh(total, form)
    return total


@triton.jit
def _formed(pointer, rows, form: tl.constexpr):
    """Where a tile of a map ``[N, words]`` is: whole blocks of words, zero beyond the last."""
    return pointer + rows.to(tl.int64)[:, None] * form.words + tl.arange(0, form.words)[None, :]


@triton.jit
def _affinity_slope(
    image,
    queries,
    projected,
    keys_slope,
    mixed_slope,
    formed,
    rows,
    valid,
    words,
    present,
    width,
    hidden,
    form: tl.constexpr,
):
    """C', unless it is formed, and the gradient before its tanh, each ``[rows, words]``."""
    affinity = tl.zeros([form.rows, form.words], dtype=form.acc)
    slope = tl.zeros([form.rows, form.words], dtype=form.acc)
    for start in range(0, width, form.inner):
        inner = start + tl.arange(0, form.inner)
        regions = _rows(image, rows, valid, inner, width, width)
        if not form.formed:
            affinity = _dot(regions, _columns(queries, words, present, inner, width, width), affinity, form)
        slope = _dot(regions, _columns(keys_slope, words, present, inner, width, width), slope, form)
    for start in range(0, hidden, form.inner):
        inner = start + tl.arange(0, form.inner)
        before = _rows(mixed_slope, rows, valid, inner, hidden, hidden * form.levels)
        slope = _dot(before, _columns(projected, words, present, inner, hidden, hidden), slope, form)
    if form.formed:
        affinity = tl.load(_formed(formed, rows, form), mask=valid[:, None], other=0.0).to(form.acc)
    elif form.saturating:
        affinity = _tanh(affinity, form)
    if form.saturating:
        slope = slope * (1 - affinity * affinity)
    return affinity, slope


@triton.jit
def _affinity_once(
    image, tile, queries, formed, place, rows, inside, valid, count, words_total, width, form: tl.constexpr
):
    """C' as an operand where all words fit one block, so that it is computed once for all of K; else nothing."""
    if form.guide == "affinity" and form.one_block:
        words = tl.arange(0, form.words)
        queries += place * words_total * width
        affinity = _affinity(image, tile, queries, rows, valid, words, words < words_total, width, form)
        affinity = _narrow(affinity, image.dtype.element_ty, form.widen)
        if form.formed:
            tl.store(_formed(formed + place * count * form.words, rows, form), affinity, mask=inside[:, None])
        return affinity
    else:  # noqa: RET505  # for Triton, what follows a return is another return of this function
        return 0


@triton.jit
def _hidden(
    features,
    tile,
    weight,
    guide,
    queries,
    affinity,
    place,
    rows,
    valid,
    columns,
    used_words,
    count,
    words_total,
    width,
    hidden,
    form: tl.constexpr,
):
    """``H = tanh(X W' + R)``, ``[rows, outer]``, with the guide and queries that are at ``place`` among all."""
    total = tl.zeros([form.rows, form.outer], dtype=form.acc)
    in_hidden = columns < hidden
    total = _product(features, tile, weight, rows, valid, columns, in_hidden, width, total, form)
    if form.guide == "vector":
        total += tl.load(guide + place * hidden + columns, mask=in_hidden, other=0.0).to(form.acc)[None, :]
    if form.guide == "matrix":
        total += _rows(guide + place * count * hidden, rows, valid, columns, hidden, hidden).to(form.acc)
    if form.guide == "affinity":
        guide += place * words_total * hidden
        if form.one_block:
            words = tl.arange(0, form.words)
            projected = _rows(guide, words, words < words_total, columns, hidden, hidden)
            total = _dot(affinity, projected, total, form)
        else:
            queries += place * words_total * width
            for start in range(0, used_words, form.words):
                words = start + tl.arange(0, form.words)
                present = words < words_total
                mutual = _affinity(features, tile, queries, rows, valid, words, present, width, form)
                projected = _rows(guide, words, present, columns, hidden, hidden)
                total = _dot(_narrow(mutual, projected.dtype, form.widen), projected, total, form)
    return _tanh(total, form)


@triton.jit
def kept(seed, example, rows, columns, form: tl.constexpr):
    """What dropout multiplies H by, ``[rows, outer]``: 0, or what keeps the mean; from seed and place alone."""
    # the place as three counters of 32 bits, where a running number would need 64 for each element
    nothing = tl.zeros([form.rows, form.outer], dtype=tl.uint32)
    column, row = nothing + columns.to(tl.uint32)[None, :], nothing + rows.to(tl.uint32)[:, None]
    drawn, _, _, _ = tl.philox(seed, column, row, nothing + example.to(tl.uint32), nothing)
    factor = tl.full([form.rows, form.outer], 1 / (1 - form.dropout), form.acc)
    return tl.where(tl.uint_to_uniform_float(drawn) >= form.dropout, factor, 0.0)


@triton.jit
def scored(
    features,  # [S, B, N, D]
    valid_pointer,  # [B, N] bool as uint8
    weight,  # [G, K, D]
    guide,  # nothing, [G, B, K], [G, B, N, K] or Y [G, B, T, K]
    queries,  # P [G, B, T, D], for an affinity alone
    used_words_pointer,  # [B] int32, for an affinity alone
    score,  # [G, K]
    seeds,  # [G] int64, for dropout alone
    formed,  # C' [G, B, N, words], written if formed
    scores,  # [G, B, N] of acc, written: -inf on padding
    maxima,  # [G, B, tiles] of acc, written if pool
    sums,  # [G, B, tiles] of acc, written if pool
    pooled,  # [G, B, tiles, D] of acc, written if pool
    examples,  # B
    count,  # N
    words_total,  # T
    width,  # D
    hidden,  # K
    form: tl.constexpr,
):
    """The scored product: ``s = tanh(X W' + R) w`` for a tile of rows, and their part of softmax and pooling."""
    level, example, tile, rows, inside, valid = _tile(valid_pointer, examples, count, form.levels, form)
    source = level // form.levels
    place = level * examples + example
    features += (source * examples + example) * count * width
    used_words = 0
    if form.guide == "affinity":
        used_words = tl.load(used_words_pointer + example)
    # a tile without a valid row does nothing
    any_valid = tl.max(valid.to(tl.int32), 0) > 0
    depth = tl.where(any_valid, width, 0)
    standing = _tile_of(features, rows, valid, width, form)
    affinity = _affinity_once(
        features, standing, queries, formed, place, rows, inside, valid, count, words_total, depth, form
    )
    total = tl.zeros([form.rows], dtype=form.acc)
    for start in range(0, tl.where(any_valid, hidden, 0), form.outer):
        columns = start + tl.arange(0, form.outer)
        mixed = _hidden(
            features,
            standing,
            weight + level * hidden * width,
            guide,
            queries,
            affinity,
            place,
            rows,
            valid,
            columns,
            used_words,
            count,
            words_total,
            width,
            hidden,
            form,
        )
        if form.dropout > 0:
            mixed *= kept(tl.load(seeds + level), example, rows, columns, form)
        pull = tl.load(score + level * hidden + columns, mask=columns < hidden, other=0.0).to(form.acc)
        total += tl.sum(mixed * pull[None, :], 1)
    total = tl.where(valid, total, float("-inf"))
    tl.store(scores + place * count + rows, total, mask=inside)
    if form.pool:
        part = place * tl.cdiv(count, form.rows) + tile
        largest = tl.max(total, 0)
        # -inf less -inf is NaN: a tile of padding alone has sum 0 and any finite maximum will do
        shift = tl.where(any_valid, largest, 0.0)
        shares = tl.where(valid, tl.exp(total - shift), 0.0)
        tl.store(maxima + part, largest)
        tl.store(sums + part, tl.sum(shares, 0))
        for start in range(0, width, form.inner):
            columns = start + tl.arange(0, form.inner)
            block = _rows(features, rows, valid, columns, width, width).to(form.acc)
            tl.store(pooled + part * width + columns, tl.sum(shares[:, None] * block, 0), mask=columns < width)


@triton.jit
def scored_backward(
    features,  # [S, B, N, D]
    valid_pointer,  # [B, N] bool as uint8
    weight,  # [G, K, D]
    guide,  # as for `scored`
    queries,  # P [G, B, T, D], for an affinity alone
    used_words_pointer,  # [B] int32, for an affinity alone
    score,  # [G, K]
    seeds,  # [G] int64, for dropout alone
    weights,  # [G, B, N], the attention, if pool
    vector_slope,  # [G, B, D], if pool
    weights_slope,  # [G, B, N]: of the attention if pool, else of the scores
    delta,  # [G, B] of acc: the mean of the attention's gradient under the attention, if pool
    formed,  # C' [G, B, N, words], written if formed
    mixed_slope,  # [S, B, N, G / S, K], written: the gradient before the tanh of H
    score_slope,  # [G, B, tiles, K] of acc, written: parts of the gradient of the score vector
    examples,  # B
    count,  # N
    words_total,  # T
    width,  # D
    hidden,  # K
    form: tl.constexpr,
):
    """H again for a tile of rows, and from it the gradient before its tanh and of the score vector."""
    level, example, tile, rows, inside, valid = _tile(valid_pointer, examples, count, form.levels, form)
    source = level // form.levels
    place = level * examples + example
    features += (source * examples + example) * count * width
    mixed_slope += (source * examples + example) * count * form.levels * hidden
    any_valid = tl.max(valid.to(tl.int32), 0) > 0
    depth = tl.where(any_valid, width, 0)
    used_words = 0
    if form.guide == "affinity":
        used_words = tl.where(any_valid, tl.load(used_words_pointer + example), 0)
    slope = tl.load(weights_slope + place * count + rows, mask=valid, other=0.0).to(form.acc)
    if form.pool:
        for start in range(0, depth, form.inner):
            columns = start + tl.arange(0, form.inner)
            pull = tl.load(vector_slope + place * width + columns, mask=columns < width, other=0.0).to(form.acc)
            block = _rows(features, rows, valid, columns, width, width).to(form.acc)
            slope += tl.sum(block * pull[None, :], 1)
        attention = tl.load(weights + place * count + rows, mask=valid, other=0.0).to(form.acc)
        slope = attention * (slope - tl.load(delta + place))
    standing = _tile_of(features, rows, valid, width, form)
    affinity = _affinity_once(
        features, standing, queries, formed, place, rows, inside, valid, count, words_total, depth, form
    )
    part = place * tl.cdiv(count, form.rows) + tile
    for start in range(0, hidden, form.outer):
        columns = start + tl.arange(0, form.outer)
        in_hidden = columns < hidden
        mixed = _hidden(
            features,
            standing,
            weight + level * hidden * width,
            guide,
            queries,
            affinity,
            place,
            rows,
            valid,
            columns,
            used_words,
            count,
            words_total,
            depth,
            hidden,
            form,
        )
        arriving = slope[:, None]
        if form.dropout > 0:
            arriving *= kept(tl.load(seeds + level), example, rows, columns, form)
        sums = tl.sum(tl.where(valid[:, None], mixed * arriving, 0.0), 0)
        tl.store(score_slope + part * hidden + columns, sums, mask=in_hidden)
        pull = tl.load(score + level * hidden + columns, mask=in_hidden, other=0.0).to(form.acc)
        before = tl.where(valid[:, None], arriving * pull[None, :] * (1 - mixed * mixed), 0.0)
        tl.store(
            mixed_slope + (rows.to(tl.int64) * form.levels + level % form.levels)[:, None] * hidden + columns[None, :],
            _narrow(before, mixed_slope.dtype.element_ty, form.widen),
            mask=inside[:, None] & in_hidden[None, :],
        )


@triton.jit
def sum_over_regions(
    image,  # [B, N, D]
    valid_pointer,  # [B, N] bool as uint8
    formed,  # C' [G, B, N, words], if formed, or the gradient before its tanh
    queries,  # P [G, B, T, D], if not formed
    projected,  # Y [G, B, T, K], if slope
    keys_slope,  # gradient of Z [G, B, T, D], if slope
    mixed_slope,  # gradient before the tanh of H_v [B, N, G, K], if slope
    summands,  # X: the image [B, N, X], or [B, N, G, X]
    sums,  # [G, B, T, X], written
    used_regions_pointer,  # [B] int32
    examples,  # B
    count,  # N
    words_total,  # T
    width,  # D
    hidden,  # K
    summand_width,  # X
    summand_stride,  # from region to region
    summand_step,  # from level to level
    form: tl.constexpr,
):
    """``C X``, or the same with the gradient before the affinity's tanh in place of C."""
    word_blocks, outer_blocks = tl.cdiv(words_total, form.words), tl.cdiv(summand_width, form.outer)
    place = tl.program_id(0)
    words = place % word_blocks * form.words + tl.arange(0, form.words)
    place = place // word_blocks
    outer = place % outer_blocks * form.outer + tl.arange(0, form.outer)
    place = place // outer_blocks
    level, example = (place % form.levels).to(tl.int64), (place // form.levels).to(tl.int64)
    place = level * examples + example
    present = words < words_total
    image += example * count * width
    if form.formed:
        formed += place * count * form.words
    else:
        queries += place * words_total * width
    summands += example * count * summand_stride + level * summand_step
    if form.slope:
        projected += place * words_total * hidden
        keys_slope += place * words_total * width
        mixed_slope += (example * count * form.levels + level) * hidden
    total = tl.zeros([form.outer, form.words], dtype=form.acc)
    for start in range(0, tl.load(used_regions_pointer + example), form.rows):
        rows = start + tl.arange(0, form.rows)
        valid = tl.load(valid_pointer + example * count + rows, mask=rows < count, other=0) != 0
        if form.formed:
            factor = tl.load(_formed(formed, rows, form), mask=(rows < count)[:, None], other=0.0)
        elif form.slope:
            _, factor = _affinity_slope(
                image,
                queries,
                projected,
                keys_slope,
                mixed_slope,
                formed,
                rows,
                valid,
                words,
                present,
                width,
                hidden,
                form,
            )
        else:
            factor = _affinity(image, 0, queries, rows, valid, words, present, width, form)
        block = _columns(summands, rows, valid, outer, summand_width, summand_stride)
        total = _dot(block, _narrow(factor, block.dtype, form.widen), total, form)
    tl.store(
        sums + (place * words_total + words)[None, :] * summand_width + outer[:, None],
        _narrow(total, sums.dtype.element_ty, form.widen),
        mask=present[None, :] & (outer < summand_width)[:, None],
    )


@triton.jit
def features_gradient(
    features,  # [S, B, N, D]
    valid_pointer,  # [B, N] bool as uint8
    queries,  # P [G, B, T, D], for an affinity alone
    projected,  # Y [G, B, T, K], for an affinity alone
    keys_slope,  # gradient of Z [G, B, T, D], for an affinity alone
    mixed_slope,  # gradient before the tanh of H [S, B, N, G / S, K]
    weight,  # [G, K, D]
    weights,  # [G, B, N], the attention
    vector_slope,  # [G, B, D]
    formed,  # C' [G, B, N, words], if formed
    formed_slope,  # the gradient before its tanh, written if formed
    gradient,  # [S, B, N, D], written
    used_words_pointer,  # [B] int32, for an affinity alone
    examples,  # B
    count,  # N
    words_total,  # T
    width,  # D
    hidden,  # K
    form: tl.constexpr,
):
    """What reaches the features from all levels: through H, through the affinity, through Z and through pooling."""
    source, example, _, rows, inside, valid = _tile(valid_pointer, examples, count, 1, form)
    any_valid = tl.max(valid.to(tl.int32), 0) > 0
    features += (source * examples + example) * count * width
    gradient += (source * examples + example) * count * width
    mixed_slope += (source * examples + example) * count * form.levels * hidden
    used_words = 0
    if form.guide == "affinity":
        used_words = tl.where(any_valid, tl.load(used_words_pointer + example), 0)
    hidden_depth = tl.where(any_valid, hidden, 0)
    affinities, slopes = (), ()
    if form.guide == "affinity" and form.one_block:
        words = tl.arange(0, form.words)
        for step in tl.static_range(form.levels):
            place = (source * form.levels + step) * examples + example
            affinity, slope = _affinity_slope(
                features,
                queries + place * words_total * width,
                projected + place * words_total * hidden,
                keys_slope + place * words_total * width,
                mixed_slope + step * hidden,
                formed + place * count * form.words if form.formed else formed,
                rows,
                valid,
                words,
                words < words_total,
                tl.where(any_valid, width, 0),
                hidden_depth,
                form,
            )
            slope = _narrow(slope, features.dtype.element_ty, form.widen)
            if form.formed:
                tl.store(_formed(formed_slope + place * count * form.words, rows, form), slope, mask=inside[:, None])
            # Triton knows no unpacking
            affinities = affinities + (_narrow(affinity, features.dtype.element_ty, form.widen),)  # noqa: RUF005
            slopes = slopes + (slope,)  # noqa: RUF005
    for start in range(0, width, form.outer):
        columns = start + tl.arange(0, form.outer)
        total = tl.zeros([form.rows, form.outer], dtype=form.acc)
        for step in tl.static_range(form.levels):
            level = source * form.levels + step
            place = level * examples + example
            for inner_start in range(0, hidden_depth, form.inner):
                inner = inner_start + tl.arange(0, form.inner)
                before = _rows(mixed_slope + step * hidden, rows, valid, inner, hidden, hidden * form.levels)
                lines = _rows(weight + level * hidden * width, inner, inner < hidden, columns, width, width)
                total = _dot(before, lines, total, form)
            if form.guide == "affinity":
                own_queries = queries + place * words_total * width
                own_keys_slope = keys_slope + place * words_total * width
                if form.one_block:
                    words = tl.arange(0, form.words)
                    present = words < words_total
                    block = _rows(own_queries, words, present, columns, width, width)
                    total = _dot(slopes[step], block, total, form)
                    block = _rows(own_keys_slope, words, present, columns, width, width)
                    total = _dot(affinities[step], block, total, form)
                else:
                    for words_start in range(0, used_words, form.words):
                        words = words_start + tl.arange(0, form.words)
                        present = words < words_total
                        affinity, slope = _affinity_slope(
                            features,
                            own_queries,
                            projected + place * words_total * hidden,
                            own_keys_slope,
                            mixed_slope + step * hidden,
                            formed,
                            rows,
                            valid,
                            words,
                            present,
                            width,
                            hidden,
                            form,
                        )
                        block = _rows(own_queries, words, present, columns, width, width)
                        total = _dot(_narrow(slope, block.dtype, form.widen), block, total, form)
                        block = _rows(own_keys_slope, words, present, columns, width, width)
                        total = _dot(_narrow(affinity, block.dtype, form.widen), block, total, form)
            attention = tl.load(weights + place * count + rows, mask=valid, other=0.0).to(form.acc)
            pull = tl.load(vector_slope + place * width + columns, mask=columns < width, other=0.0).to(form.acc)
            total += attention[:, None] * pull[None, :]
        total = tl.where(valid[:, None], total, 0.0)
        tl.store(
            gradient + rows.to(tl.int64)[:, None] * width + columns[None, :],
            _narrow(total, gradient.dtype.element_ty, form.widen),
            mask=inside[:, None] & (columns < width)[None, :],
        )


@triton.jit
def combine(
    scores,  # [B, N] of ACC, -inf on padding
    maxima,  # [B, tiles] of ACC
    sums,  # [B, tiles] of ACC
    pooled,  # [B, tiles, D] of ACC
    weights,  # [B, N], written
    vectors,  # [B, D], written
    wide_vectors,  # [B, D] of ACC, written
    count,  # N
    tiles,
    width,  # D
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Softmax and pooled vectors from the parts that the tiles left."""
    example, slice_ = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = slice_ * COLUMNS + tl.arange(0, COLUMNS)
    largest = tl.full([], float("-inf"), dtype=ACC)
    for tile in range(tiles):
        largest = tl.maximum(largest, tl.load(maxima + example * tiles + tile), propagate_nan=tl.PropagateNan.ALL)
    shift = tl.where(largest == float("-inf"), 0.0, largest)
    total = tl.full([], 0.0, dtype=ACC)
    vector = tl.zeros([COLUMNS], dtype=ACC)
    for tile in range(tiles):
        place = example * tiles + tile
        share = tl.exp(tl.load(maxima + place) - shift)
        total += share * tl.load(sums + place)
        vector += share * tl.load(pooled + place * width + columns, mask=columns < width, other=0.0)
    scale = tl.where(total == 0.0, 0.0, 1 / tl.where(total == 0.0, 1.0, total))
    vector = vector * scale
    tl.store(wide_vectors + example * width + columns, vector, mask=columns < width)
    tl.store(
        vectors + example * width + columns, _narrow(vector, vectors.dtype.element_ty, WIDEN), mask=columns < width
    )
    if slice_ == 0:
        for start in range(0, count, ROWS):
            rows = start + tl.arange(0, ROWS)
            value = tl.load(scores + example * count + rows, mask=rows < count, other=float("-inf"))
            # padding is -inf, whose exponential is 0 whatever the shift
            weight = tl.where(value == float("-inf"), 0.0, tl.exp(value - shift) * scale)
            tl.store(
                weights + example * count + rows, _narrow(weight, weights.dtype.element_ty, WIDEN), mask=rows < count
            )


@triton.jit
def attend_rows(
    scores,  # [B, T] of ACC, -inf on padding
    features,  # [B, T, D], anything on padding
    weights,  # [B, T], written
    vectors,  # [B, D], written
    count,  # T
    width,  # D
    ACC: tl.constexpr,
    WIDEN: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Softmax and pooling of short rows, straight from their scores."""
    example, slice_ = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = slice_ * COLUMNS + tl.arange(0, COLUMNS)
    largest = tl.full([], float("-inf"), dtype=ACC)
    for start in range(0, count, ROWS):
        rows = start + tl.arange(0, ROWS)
        value = tl.load(scores + example * count + rows, mask=rows < count, other=float("-inf"))
        largest = tl.maximum(largest, tl.max(value, 0))
    shift = tl.where(largest == float("-inf"), 0.0, largest)
    total = tl.full([], 0.0, dtype=ACC)
    for start in range(0, count, ROWS):
        rows = start + tl.arange(0, ROWS)
        value = tl.load(scores + example * count + rows, mask=rows < count, other=float("-inf"))
        total += tl.sum(tl.exp(value - shift), 0)
    scale = tl.where(total == 0.0, 0.0, 1 / tl.where(total == 0.0, 1.0, total))
    vector = tl.zeros([COLUMNS], dtype=ACC)
    for start in range(0, count, ROWS):
        rows = start + tl.arange(0, ROWS)
        value = tl.load(scores + example * count + rows, mask=rows < count, other=float("-inf"))
        weight = tl.where(value == float("-inf"), 0.0, tl.exp(value - shift) * scale)
        if slice_ == 0:
            tl.store(
                weights + example * count + rows, _narrow(weight, weights.dtype.element_ty, WIDEN), mask=rows < count
            )
        chosen = (rows < count) & (value != float("-inf"))
        block = _rows(features + example * count * width, rows, chosen, columns, width, width).to(ACC)
        vector += tl.sum(weight[:, None] * block, 0)
    tl.store(
        vectors + example * width + columns, _narrow(vector, vectors.dtype.element_ty, WIDEN), mask=columns < width
    )
