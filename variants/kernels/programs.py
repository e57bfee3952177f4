# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# Triton reads these functions' text; their arguments are pointers and numbers that no Python type describes.
"""Device programs of the fused kernels. Every one writes each element of its outputs, and none adds atomically.

Pointers are to contiguous tensors, row by row. Regions are rows (``n``), words are columns (``t``) of the transposed
affinity ``C'``, since tensor cores want 64 rows or more and questions are short.
"""

import triton
import triton.language as tl

NOTHING: tl.constexpr = tl.constexpr(0)
VECTOR: tl.constexpr = tl.constexpr(1)
MATRIX: tl.constexpr = tl.constexpr(2)
AFFINITY: tl.constexpr = tl.constexpr(3)


@triton.jit
def _tanh(x, APPROXIMATE: tl.constexpr):
    if APPROXIMATE:
        # one instruction, good to 2^-11: as fine as the 16-bit types that it is used for
        return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
    # of the magnitude, so that no exponential overflows
    small = tl.exp(-2 * tl.abs(x))
    size = (1 - small) / (1 + small)
    return tl.where(x < 0, -size, size)


@triton.jit
def _dot(left, right, total, WIDEN: tl.constexpr):
    # the interpreter multiplies the bit patterns of bfloat16
    if WIDEN:
        return tl.dot(left.to(tl.float32), right.to(tl.float32), total)
    return tl.dot(left, right, total, input_precision="tf32x3", out_dtype=total.dtype)


@triton.jit
def _rows(pointer, rows, chosen, columns, width):
    """``[rows, columns]`` of a matrix of that width, zero where a row is not chosen."""
    return tl.load(
        pointer + rows.to(tl.int64)[:, None] * width + columns[None, :],
        mask=chosen[:, None] & (columns < width)[None, :],
        other=0.0,
    )


@triton.jit
def _columns(pointer, rows, chosen, columns, width):
    """The same, transposed: ``[columns, rows]``."""
    return tl.load(
        pointer + rows.to(tl.int64)[None, :] * width + columns[:, None],
        mask=chosen[None, :] & (columns < width)[:, None],
        other=0.0,
    )


@triton.jit
def _affinity(
    image,
    queries,
    rows,
    valid,
    words,
    present,
    width,
    ACC: tl.constexpr,
    REGIONS: tl.constexpr,
    WORDS: tl.constexpr,
    INNER: tl.constexpr,
    SATURATING: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """C' ``[REGIONS, WORDS]`` of one example."""
    total = tl.zeros([REGIONS, WORDS], dtype=ACC)
    for start in range(0, width, INNER):
        inner = start + tl.arange(0, INNER)
        total = _dot(
            _rows(image, rows, valid, inner, width), _columns(queries, words, present, inner, width), total, WIDEN
        )
    if SATURATING:
        total = _tanh(total, APPROXIMATE)
    return total


@triton.jit
def _affinity_slope(
    image,
    queries,
    projected,
    keys_slope,
    mixed_slope,
    rows,
    valid,
    words,
    present,
    width,
    hidden,
    ACC: tl.constexpr,
    REGIONS: tl.constexpr,
    WORDS: tl.constexpr,
    INNER: tl.constexpr,
    SATURATING: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """C' and the gradient before its tanh, each ``[REGIONS, WORDS]``."""
    affinity = tl.zeros([REGIONS, WORDS], dtype=ACC)
    slope = tl.zeros([REGIONS, WORDS], dtype=ACC)
    for start in range(0, width, INNER):
        inner = start + tl.arange(0, INNER)
        regions = _rows(image, rows, valid, inner, width)
        affinity = _dot(regions, _columns(queries, words, present, inner, width), affinity, WIDEN)
        slope = _dot(regions, _columns(keys_slope, words, present, inner, width), slope, WIDEN)
    for start in range(0, hidden, INNER):
        inner = start + tl.arange(0, INNER)
        slope = _dot(
            _rows(mixed_slope, rows, valid, inner, hidden),
            _columns(projected, words, present, inner, hidden),
            slope,
            WIDEN,
        )
    if SATURATING:
        affinity = _tanh(affinity, APPROXIMATE)
        slope = slope * (1 - affinity * affinity)
    return affinity, slope


@triton.jit
def _mixed(
    features,
    weight,
    guide,
    image_queries,
    affinity,
    rows,
    valid,
    hidden_columns,
    used_words,
    words_total,
    width,
    hidden,
    GUIDE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    HIDDEN: tl.constexpr,
    INNER: tl.constexpr,
    WORDS: tl.constexpr,
    ONE_BLOCK_OF_WORDS: tl.constexpr,
    SATURATING: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """``tanh(X W' + R)``, ``[ROWS, HIDDEN]``; R is nothing, a vector, a matrix, or C' Y."""
    total = tl.zeros([ROWS, HIDDEN], dtype=ACC)
    in_hidden = hidden_columns < hidden
    for start in range(0, width, INNER):
        inner = start + tl.arange(0, INNER)
        total = _dot(
            _rows(features, rows, valid, inner, width),
            _columns(weight, hidden_columns, in_hidden, inner, width),
            total,
            WIDEN,
        )
    if GUIDE == VECTOR:
        total += tl.load(guide + hidden_columns, mask=in_hidden, other=0.0).to(ACC)[None, :]
    if GUIDE == MATRIX:
        total += _rows(guide, rows, valid, hidden_columns, hidden).to(ACC)
    if GUIDE == AFFINITY:
        if ONE_BLOCK_OF_WORDS:
            words = tl.arange(0, WORDS)
            total = _dot(affinity, _rows(guide, words, words < words_total, hidden_columns, hidden), total, WIDEN)
        else:
            for start in range(0, used_words, WORDS):
                words = start + tl.arange(0, WORDS)
                present = words < words_total
                mutual = _affinity(
                    features,
                    image_queries,
                    rows,
                    valid,
                    words,
                    present,
                    width,
                    ACC,
                    ROWS,
                    WORDS,
                    INNER,
                    SATURATING,
                    APPROXIMATE,
                    WIDEN,
                )
                projected = _rows(guide, words, present, hidden_columns, hidden)
                total = _dot(mutual.to(projected.dtype), projected, total, WIDEN)
    return _tanh(total, APPROXIMATE)


@triton.jit
def scored(
    features,  # [B, N, D]
    valid_pointer,  # [B, N] bool as uint8
    weight,  # [K, D]
    guide,  # nothing, [B, K], [B, N, K] or Y [B, T, K]
    queries,  # P [B, T, D], for an affinity alone
    used_words_pointer,  # [B] int32, for an affinity alone
    score,  # [K]
    scores,  # [B, N] of ACC, -inf on padding
    maxima,  # [B, tiles] of ACC, if POOL
    sums,  # [B, tiles] of ACC, if POOL
    pooled,  # [B, tiles, D] of ACC, if POOL
    count,  # N
    words_total,  # T
    width,  # D
    hidden,  # K
    GUIDE: tl.constexpr,
    POOL: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    HIDDEN: tl.constexpr,
    INNER: tl.constexpr,
    WORDS: tl.constexpr,
    ONE_BLOCK_OF_WORDS: tl.constexpr,
    SATURATING: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """The scored product: ``s = tanh(X W' + R) w`` for a tile of rows, and their part of softmax and pooling."""
    tile, example = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    valid = tl.load(valid_pointer + example * count + rows, mask=inside, other=0) != 0
    features += example * count * width
    used_words = 0
    if GUIDE == VECTOR:
        guide += example * hidden
    if GUIDE == MATRIX:
        guide += example * count * hidden
    if GUIDE == AFFINITY:
        guide += example * words_total * hidden
        queries += example * words_total * width
        used_words = tl.load(used_words_pointer + example)
    # a tile without a valid row does nothing
    any_valid = tl.max(valid.to(tl.int32), 0)
    affinity = 0
    if GUIDE == AFFINITY and ONE_BLOCK_OF_WORDS:
        words = tl.arange(0, WORDS)
        affinity = _affinity(
            features,
            queries,
            rows,
            valid,
            words,
            words < words_total,
            width * any_valid,
            ACC,
            ROWS,
            WORDS,
            INNER,
            SATURATING,
            APPROXIMATE,
            WIDEN,
        ).to(features.dtype.element_ty)
    total = tl.zeros([ROWS], dtype=ACC)
    for start in range(0, hidden * any_valid, HIDDEN):
        columns = start + tl.arange(0, HIDDEN)
        mixed = _mixed(
            features,
            weight,
            guide,
            queries,
            affinity,
            rows,
            valid,
            columns,
            used_words,
            words_total,
            width,
            hidden,
            GUIDE,
            ACC,
            ROWS,
            HIDDEN,
            INNER,
            WORDS,
            ONE_BLOCK_OF_WORDS,
            SATURATING,
            APPROXIMATE,
            WIDEN,
        )
        total += tl.sum(mixed * tl.load(score + columns, mask=columns < hidden, other=0.0).to(ACC)[None, :], 1)
    total = tl.where(valid, total, float("-inf"))
    tl.store(scores + example * count + rows, total, mask=inside)
    if POOL:
        place = example * tl.num_programs(0) + tile
        largest = tl.max(total, 0)
        # -inf less -inf is NaN: a tile of padding alone has sum 0 and any finite maximum will do
        shift = tl.where(any_valid > 0, largest, 0.0)
        shares = tl.where(valid, tl.exp(total - shift), 0.0)
        tl.store(maxima + place, largest)
        tl.store(sums + place, tl.sum(shares, 0))
        for start in range(0, width, INNER):
            columns = start + tl.arange(0, INNER)
            block = _rows(features, rows, valid, columns, width).to(ACC)
            tl.store(pooled + place * width + columns, tl.sum(shares[:, None] * block, 0), mask=columns < width)


@triton.jit
def scored_backward(
    features,  # [B, N, D]
    valid_pointer,  # [B, N] bool as uint8
    weight,  # [K, D]
    guide,  # as for `scored`
    queries,  # P [B, T, D], for an affinity alone
    used_words_pointer,  # [B] int32, for an affinity alone
    score,  # [K]
    weights,  # [B, N], the attention
    vector_slope,  # [B, D], if POOL
    weights_slope,  # [B, N]: of the attention if POOL, else of the scores
    delta,  # [B] of ACC: the mean of the attention's gradient under the attention, if POOL
    mixed_slope,  # [B, N, K], written: the gradient before the tanh of H
    score_slope,  # [B, tiles, K] of ACC, written: parts of the gradient of the score vector
    count,  # N
    words_total,  # T
    width,  # D
    hidden,  # K
    GUIDE: tl.constexpr,
    POOL: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    HIDDEN: tl.constexpr,
    INNER: tl.constexpr,
    WORDS: tl.constexpr,
    ONE_BLOCK_OF_WORDS: tl.constexpr,
    SATURATING: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """H again for a tile of rows, and from it the gradient before its tanh and of the score vector."""
    tile, example = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    valid = tl.load(valid_pointer + example * count + rows, mask=inside, other=0) != 0
    features += example * count * width
    mixed_slope += example * count * hidden
    score_slope += (example * tl.num_programs(0) + tile) * hidden
    used_words = 0
    if GUIDE == VECTOR:
        guide += example * hidden
    if GUIDE == MATRIX:
        guide += example * count * hidden
    if GUIDE == AFFINITY:
        guide += example * words_total * hidden
        queries += example * words_total * width
        used_words = tl.load(used_words_pointer + example)
    any_valid = tl.max(valid.to(tl.int32), 0)
    slope = tl.load(weights_slope + example * count + rows, mask=valid, other=0.0).to(ACC)
    if POOL:
        for start in range(0, width * any_valid, INNER):
            columns = start + tl.arange(0, INNER)
            pull = tl.load(vector_slope + example * width + columns, mask=columns < width, other=0.0).to(ACC)
            slope += tl.sum(_rows(features, rows, valid, columns, width).to(ACC) * pull[None, :], 1)
        attention = tl.load(weights + example * count + rows, mask=valid, other=0.0).to(ACC)
        slope = attention * (slope - tl.load(delta + example))
    affinity = 0
    if GUIDE == AFFINITY and ONE_BLOCK_OF_WORDS:
        words = tl.arange(0, WORDS)
        affinity = _affinity(
            features,
            queries,
            rows,
            valid,
            words,
            words < words_total,
            width * any_valid,
            ACC,
            ROWS,
            WORDS,
            INNER,
            SATURATING,
            APPROXIMATE,
            WIDEN,
        ).to(features.dtype.element_ty)
    for start in range(0, hidden, HIDDEN):
        columns = start + tl.arange(0, HIDDEN)
        in_hidden = columns < hidden
        mixed = _mixed(
            features,
            weight,
            guide,
            queries,
            affinity,
            rows,
            valid,
            columns,
            used_words * any_valid,
            words_total,
            width * any_valid,
            hidden,
            GUIDE,
            ACC,
            ROWS,
            HIDDEN,
            INNER,
            WORDS,
            ONE_BLOCK_OF_WORDS,
            SATURATING,
            APPROXIMATE,
            WIDEN,
        )
        tl.store(
            score_slope + columns, tl.sum(tl.where(valid[:, None], mixed * slope[:, None], 0.0), 0), mask=in_hidden
        )
        pull = tl.load(score + columns, mask=in_hidden, other=0.0).to(ACC)
        before = tl.where(valid[:, None], slope[:, None] * pull[None, :] * (1 - mixed * mixed), 0.0)
        tl.store(
            mixed_slope + rows.to(tl.int64)[:, None] * hidden + columns[None, :],
            before.to(mixed_slope.dtype.element_ty),
            mask=inside[:, None] & in_hidden[None, :],
        )


@triton.jit
def sum_over_regions(
    image,  # [B, N, D]
    valid_pointer,  # [B, N] bool as uint8
    queries,  # P [B, T, D]
    projected,  # Y [B, T, K], if SLOPE
    keys_slope,  # gradient of Z [B, T, D], if SLOPE
    mixed_slope,  # gradient before the tanh of H_v [B, N, K], if SLOPE
    summands,  # [B, N, X]
    sums,  # [B, T, X], written
    count,  # N
    used_regions_pointer,  # [B] int32
    words_total,  # T
    width,  # D
    hidden,  # K
    summand_width,  # X
    SLOPE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    SATURATING: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """``C X``, or the same with the gradient before the affinity's tanh in place of C."""
    words = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    example = tl.program_id(1).to(tl.int64)
    outer = tl.program_id(2) * OUTER + tl.arange(0, OUTER)
    present = words < words_total
    image += example * count * width
    queries += example * words_total * width
    projected += example * words_total * hidden
    keys_slope += example * words_total * width
    mixed_slope += example * count * hidden
    summands += example * count * summand_width
    total = tl.zeros([OUTER, WORDS], dtype=ACC)
    for start in range(0, tl.load(used_regions_pointer + example), ROWS):
        rows = start + tl.arange(0, ROWS)
        valid = tl.load(valid_pointer + example * count + rows, mask=rows < count, other=0) != 0
        if SLOPE:
            _, factor = _affinity_slope(
                image,
                queries,
                projected,
                keys_slope,
                mixed_slope,
                rows,
                valid,
                words,
                present,
                width,
                hidden,
                ACC,
                ROWS,
                WORDS,
                INNER,
                SATURATING,
                APPROXIMATE,
                WIDEN,
            )
        else:
            factor = _affinity(
                image,
                queries,
                rows,
                valid,
                words,
                present,
                width,
                ACC,
                ROWS,
                WORDS,
                INNER,
                SATURATING,
                APPROXIMATE,
                WIDEN,
            )
        block = _columns(summands, rows, valid, outer, summand_width)
        total = _dot(block, factor.to(block.dtype), total, WIDEN)
    tl.store(
        sums + (example * words_total + words)[None, :] * summand_width + outer[:, None],
        total.to(sums.dtype.element_ty),
        mask=present[None, :] & (outer < summand_width)[:, None],
    )


@triton.jit
def image_gradient(
    image,  # [B, N, D]
    valid_pointer,  # [B, N] bool as uint8
    queries,  # P [B, T, D]
    projected,  # Y [B, T, K]
    keys_slope,  # gradient of Z [B, T, D]
    mixed_slope,  # gradient before the tanh of H_v [B, N, K]
    weight,  # [K, D]
    weights,  # [B, N], the attention
    vector_slope,  # [B, D]
    gradient,  # [B, N, D], written
    used_words_pointer,  # [B] int32
    count,  # N
    words_total,  # T
    width,  # D
    hidden,  # K
    AFFINE: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    OUTER: tl.constexpr,
    INNER: tl.constexpr,
    WORDS: tl.constexpr,
    ONE_BLOCK_OF_WORDS: tl.constexpr,
    SATURATING: tl.constexpr,
    APPROXIMATE: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Everything that reaches the image features: through H_v, through the affinity, through Z and through pooling."""
    tile, example = tl.program_id(0), tl.program_id(1).to(tl.int64)
    rows = tile * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    valid = tl.load(valid_pointer + example * count + rows, mask=inside, other=0) != 0
    any_valid = tl.max(valid.to(tl.int32), 0)
    image += example * count * width
    mixed_slope += example * count * hidden
    gradient += example * count * width
    used_words = 0
    affinity = 0
    slope = 0
    if AFFINE:
        queries += example * words_total * width
        projected += example * words_total * hidden
        keys_slope += example * words_total * width
        used_words = tl.load(used_words_pointer + example) * any_valid
        if ONE_BLOCK_OF_WORDS:
            words = tl.arange(0, WORDS)
            affinity, slope = _affinity_slope(
                image,
                queries,
                projected,
                keys_slope,
                mixed_slope,
                rows,
                valid,
                words,
                words < words_total,
                width * any_valid,
                hidden * any_valid,
                ACC,
                ROWS,
                WORDS,
                INNER,
                SATURATING,
                APPROXIMATE,
                WIDEN,
            )
            affinity = affinity.to(image.dtype.element_ty)
            slope = slope.to(image.dtype.element_ty)
    attention = tl.load(weights + example * count + rows, mask=valid, other=0.0).to(ACC)
    for start in range(0, width, OUTER):
        columns = start + tl.arange(0, OUTER)
        total = tl.zeros([ROWS, OUTER], dtype=ACC)
        for inner_start in range(0, hidden * any_valid, INNER):
            inner = inner_start + tl.arange(0, INNER)
            total = _dot(
                _rows(mixed_slope, rows, valid, inner, hidden),
                _rows(weight, inner, inner < hidden, columns, width),
                total,
                WIDEN,
            )
        if AFFINE:
            if ONE_BLOCK_OF_WORDS:
                words = tl.arange(0, WORDS)
                present = words < words_total
                total = _dot(slope, _rows(queries, words, present, columns, width), total, WIDEN)
                total = _dot(affinity, _rows(keys_slope, words, present, columns, width), total, WIDEN)
            else:
                for words_start in range(0, used_words, WORDS):
                    words = words_start + tl.arange(0, WORDS)
                    present = words < words_total
                    mutual, before = _affinity_slope(
                        image,
                        queries,
                        projected,
                        keys_slope,
                        mixed_slope,
                        rows,
                        valid,
                        words,
                        present,
                        width,
                        hidden,
                        ACC,
                        ROWS,
                        WORDS,
                        INNER,
                        SATURATING,
                        APPROXIMATE,
                        WIDEN,
                    )
                    block = _rows(queries, words, present, columns, width)
                    total = _dot(before.to(block.dtype), block, total, WIDEN)
                    total = _dot(
                        mutual.to(block.dtype), _rows(keys_slope, words, present, columns, width), total, WIDEN
                    )
        pull = tl.load(vector_slope + example * width + columns, mask=columns < width, other=0.0).to(ACC)
        total = tl.where(valid[:, None], total + attention[:, None] * pull[None, :], 0.0)
        tl.store(
            gradient + rows.to(tl.int64)[:, None] * width + columns[None, :],
            total.to(gradient.dtype.element_ty),
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
    tl.store(vectors + example * width + columns, vector.to(vectors.dtype.element_ty), mask=columns < width)
    if slice_ == 0:
        for start in range(0, count, ROWS):
            rows = start + tl.arange(0, ROWS)
            value = tl.load(scores + example * count + rows, mask=rows < count, other=float("-inf"))
            # padding is -inf, whose exponential is 0 whatever the shift
            weight = tl.where(value == float("-inf"), 0.0, tl.exp(value - shift) * scale)
            tl.store(weights + example * count + rows, weight.to(weights.dtype.element_ty), mask=rows < count)


@triton.jit
def attend_rows(
    scores,  # [B, T] of ACC, -inf on padding
    features,  # [B, T, D], blank on padding
    weights,  # [B, T], written
    vectors,  # [B, D], written
    count,  # T
    width,  # D
    ACC: tl.constexpr,
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
            tl.store(weights + example * count + rows, weight.to(weights.dtype.element_ty), mask=rows < count)
        block = _rows(features + example * count * width, rows, rows < count, columns, width).to(ACC)
        vector += tl.sum(weight[:, None] * block, 0)
    tl.store(vectors + example * width + columns, vector.to(vectors.dtype.element_ty), mask=columns < width)
