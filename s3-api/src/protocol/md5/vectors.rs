//! The block function in vectors of 8 and 16 lanes.
//!
//! Values of vector types are made from and taken apart to plain integers, so that no pointer is handled here. What is
//! left of `unsafe` is one call for each kind of vector: of a function compiled for instructions that only some
//! processors have.

use std::arch::x86_64::*;

/// A kind of vector that this processor has: the proof of it, since only [`Vectors::detect`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vectors(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Eight lanes of 32 bits (AVX2).
    Eight,
    /// Sixteen lanes; eight where fewer are in use, by the same instructions on half of each register (AVX-512F and VL).
    /// These rotate, and combine three values, in one step.
    Sixteen,
}

/// Blocks of one message.
type Blocks<'a> = &'a [[u8; 64]];

impl Vectors {
    /// The most lanes of any kind.
    pub(super) const LANES_MAX: usize = 16;

    /// The best kind this processor has.
    pub(super) fn detect() -> Option<Vectors> {
        Vectors::all().next()
    }

    /// Every kind this processor has, the best first.
    pub(super) fn all() -> impl Iterator<Item = Vectors> {
        let sixteen = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        let eight = is_x86_feature_detected!("avx2");
        [(sixteen && eight, Kind::Sixteen), (eight, Kind::Eight)]
            .into_iter()
            .filter_map(|(there, kind)| there.then_some(Vectors(kind)))
    }

    /// How many messages are hashed side by side.
    pub(super) fn lanes(self) -> usize {
        match self.0 {
            Kind::Eight => 8,
            Kind::Sixteen => 16,
        }
    }

    /// Hashes the first `blocks` blocks of each of the first `lanes` inputs into its state.
    ///
    /// # Panics
    /// When there are more lanes than [`Vectors::lanes`], or one of the inputs is shorter.
    pub(super) fn compress(
        self,
        states: &mut [[u32; 4]; Self::LANES_MAX],
        inputs: &[Blocks<'_>; Self::LANES_MAX],
        lanes: usize,
        blocks: usize,
    ) {
        assert!(0 < lanes && lanes <= self.lanes());
        // A lane that is not in use hashes what lane 0 hashes, into a state that is thrown away.
        let mut work = *states;
        let sources = std::array::from_fn(|lane| &inputs[if lane < lanes { lane } else { 0 }][..blocks]);
        let first = sources.first_chunk().expect("16 hold 8");
        match self.0 {
            Kind::Eight => {
                let work = work.first_chunk_mut().expect("16 hold 8");
                // SAFETY: the function asks for AVX2 and nothing else; `Kind::Eight` is made only where it was detected.
                unsafe { eight::compress(work, first) }
            }
            Kind::Sixteen if lanes <= 8 => {
                let work = work.first_chunk_mut().expect("16 hold 8");
                // SAFETY: the function asks for AVX2, AVX-512F and AVX-512VL and nothing else; `Kind::Sixteen` is made only
                // where all three were detected.
                unsafe { eight_of_sixteen::compress(work, first) }
            }
            // SAFETY: as for eight of sixteen.
            Kind::Sixteen => unsafe { sixteen::compress(&mut work, &sources) },
        }
        states[..lanes].copy_from_slice(&work[..lanes]);
    }
}

/// RFC 1321, section 3.4: 2^32 times the sine of 1, 2, … 64, as integers.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

// What closures handed to the standard library would do in the functions below, these do outside: code compiled for
// more instructions is not inlined into code compiled for fewer, the other way round it is.

#[inline(always)]
fn signed<const LANES: usize>(words: [u32; LANES]) -> [i32; LANES] {
    words.map(u32::cast_signed)
}

/// Block `index` of every message.
#[inline(always)]
fn nth<'a, const LANES: usize>(inputs: &[Blocks<'a>; LANES], index: usize) -> [&'a [u8; 64]; LANES] {
    std::array::from_fn(|lane| &inputs[lane][index])
}

/// Word `index` of every state.
#[inline(always)]
fn column<const LANES: usize>(states: &[[u32; 4]; LANES], index: usize) -> [u32; LANES] {
    std::array::from_fn(|lane| states[lane][index])
}

/// Sets word `index` of every state.
#[inline(always)]
fn set_column<const LANES: usize>(states: &mut [[u32; 4]; LANES], index: usize, words: [u32; LANES]) {
    for (state, word) in states.iter_mut().zip(words) {
        state[index] = word;
    }
}

/// The 64 steps of a block. The functions named in them are those of the module that uses this.
///
/// The sum of what is known early stands apart, so that from one step to the next only the mixing, one addition, the
/// rotation and another addition wait for each other. A compiler that knows the sines would add them last, as it does
/// with constants, and so lengthen the chain by a quarter.
macro_rules! steps {
    ($a:ident $b:ident $c:ident $d:ident, $words:ident, $sines:ident) => {
        step!($a $b $c $d, f, $words[0], $sines[0], 7);
        step!($d $a $b $c, f, $words[1], $sines[1], 12);
        step!($c $d $a $b, f, $words[2], $sines[2], 17);
        step!($b $c $d $a, f, $words[3], $sines[3], 22);
        step!($a $b $c $d, f, $words[4], $sines[4], 7);
        step!($d $a $b $c, f, $words[5], $sines[5], 12);
        step!($c $d $a $b, f, $words[6], $sines[6], 17);
        step!($b $c $d $a, f, $words[7], $sines[7], 22);
        step!($a $b $c $d, f, $words[8], $sines[8], 7);
        step!($d $a $b $c, f, $words[9], $sines[9], 12);
        step!($c $d $a $b, f, $words[10], $sines[10], 17);
        step!($b $c $d $a, f, $words[11], $sines[11], 22);
        step!($a $b $c $d, f, $words[12], $sines[12], 7);
        step!($d $a $b $c, f, $words[13], $sines[13], 12);
        step!($c $d $a $b, f, $words[14], $sines[14], 17);
        step!($b $c $d $a, f, $words[15], $sines[15], 22);
        step!($a $b $c $d, g, $words[1], $sines[16], 5);
        step!($d $a $b $c, g, $words[6], $sines[17], 9);
        step!($c $d $a $b, g, $words[11], $sines[18], 14);
        step!($b $c $d $a, g, $words[0], $sines[19], 20);
        step!($a $b $c $d, g, $words[5], $sines[20], 5);
        step!($d $a $b $c, g, $words[10], $sines[21], 9);
        step!($c $d $a $b, g, $words[15], $sines[22], 14);
        step!($b $c $d $a, g, $words[4], $sines[23], 20);
        step!($a $b $c $d, g, $words[9], $sines[24], 5);
        step!($d $a $b $c, g, $words[14], $sines[25], 9);
        step!($c $d $a $b, g, $words[3], $sines[26], 14);
        step!($b $c $d $a, g, $words[8], $sines[27], 20);
        step!($a $b $c $d, g, $words[13], $sines[28], 5);
        step!($d $a $b $c, g, $words[2], $sines[29], 9);
        step!($c $d $a $b, g, $words[7], $sines[30], 14);
        step!($b $c $d $a, g, $words[12], $sines[31], 20);
        step!($a $b $c $d, h, $words[5], $sines[32], 4);
        step!($d $a $b $c, h, $words[8], $sines[33], 11);
        step!($c $d $a $b, h, $words[11], $sines[34], 16);
        step!($b $c $d $a, h, $words[14], $sines[35], 23);
        step!($a $b $c $d, h, $words[1], $sines[36], 4);
        step!($d $a $b $c, h, $words[4], $sines[37], 11);
        step!($c $d $a $b, h, $words[7], $sines[38], 16);
        step!($b $c $d $a, h, $words[10], $sines[39], 23);
        step!($a $b $c $d, h, $words[13], $sines[40], 4);
        step!($d $a $b $c, h, $words[0], $sines[41], 11);
        step!($c $d $a $b, h, $words[3], $sines[42], 16);
        step!($b $c $d $a, h, $words[6], $sines[43], 23);
        step!($a $b $c $d, h, $words[9], $sines[44], 4);
        step!($d $a $b $c, h, $words[12], $sines[45], 11);
        step!($c $d $a $b, h, $words[15], $sines[46], 16);
        step!($b $c $d $a, h, $words[2], $sines[47], 23);
        step!($a $b $c $d, i, $words[0], $sines[48], 6);
        step!($d $a $b $c, i, $words[7], $sines[49], 10);
        step!($c $d $a $b, i, $words[14], $sines[50], 15);
        step!($b $c $d $a, i, $words[5], $sines[51], 21);
        step!($a $b $c $d, i, $words[12], $sines[52], 6);
        step!($d $a $b $c, i, $words[3], $sines[53], 10);
        step!($c $d $a $b, i, $words[10], $sines[54], 15);
        step!($b $c $d $a, i, $words[1], $sines[55], 21);
        step!($a $b $c $d, i, $words[8], $sines[56], 6);
        step!($d $a $b $c, i, $words[15], $sines[57], 10);
        step!($c $d $a $b, i, $words[6], $sines[58], 15);
        step!($b $c $d $a, i, $words[13], $sines[59], 21);
        step!($a $b $c $d, i, $words[4], $sines[60], 6);
        step!($d $a $b $c, i, $words[11], $sines[61], 10);
        step!($c $d $a $b, i, $words[2], $sines[62], 15);
        step!($b $c $d $a, i, $words[9], $sines[63], 21);
    };
}

macro_rules! step {
    ($a:ident $b:ident $c:ident $d:ident, $mix:ident, $word:expr, $sine:expr, $turn:literal) => {
        let early = add($a, add($word, splat($sine)));
        $a = add($b, rotate::<$turn, { 32 - $turn }>(add($mix($b, $c, $d), early)));
    };
}

/// The block function over all blocks, from the module's own `Vector` and its functions.
macro_rules! block_function {
    ($features:literal, $lanes:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn compress(states: &mut [[u32; 4]; $lanes], inputs: &[Blocks<'_>; $lanes]) {
            let sines = std::hint::black_box(&SINES);
            let (mut a, mut b) = (gather(column(states, 0)), gather(column(states, 1)));
            let (mut c, mut d) = (gather(column(states, 2)), gather(column(states, 3)));
            for index in 0..inputs[0].len() {
                let words = transpose(nth(inputs, index));
                let before = [a, b, c, d];
                steps!(a b c d, words, sines);
                a = add(a, before[0]);
                b = add(b, before[1]);
                c = add(c, before[2]);
                d = add(d, before[3]);
            }
            set_column(states, 0, scatter(a));
            set_column(states, 1, scatter(b));
            set_column(states, 2, scatter(c));
            set_column(states, 3, scatter(d));
        }
    };
}

/// 256-bit vectors: loading, transposing and taking apart, for both kinds that use them.
mod half {
    use super::*;

    pub(super) type Vector = __m256i;

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn gather(words: [u32; 8]) -> Vector {
        let [a, b, c, d, e, f, g, h] = signed(words);
        _mm256_setr_epi32(a, b, c, d, e, f, g, h)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn scatter(vector: Vector) -> [u32; 8] {
        [
            _mm256_extract_epi32::<0>(vector),
            _mm256_extract_epi32::<1>(vector),
            _mm256_extract_epi32::<2>(vector),
            _mm256_extract_epi32::<3>(vector),
            _mm256_extract_epi32::<4>(vector),
            _mm256_extract_epi32::<5>(vector),
            _mm256_extract_epi32::<6>(vector),
            _mm256_extract_epi32::<7>(vector),
        ]
        .map(i32::cast_unsigned)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn splat(word: u32) -> Vector {
        _mm256_set1_epi32(word.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn add(x: Vector, y: Vector) -> Vector {
        _mm256_add_epi32(x, y)
    }

    /// Half of a block, the first (0) or the second (1); the compiler makes one load of it.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn load<const HALF: usize>(block: &[u8; 64]) -> Vector {
        let (words, _) = block.as_chunks();
        let word = |index: usize| i64::from_le_bytes(words[4 * HALF + index]);
        _mm256_setr_epi64x(word(0), word(1), word(2), word(3))
    }

    /// Word `i` of half of every block, for each `i`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose_half<const HALF: usize>([a, b, c, d, e, f, g, h]: [&[u8; 64]; 8]) -> [Vector; 8] {
        let (a, b, c, d) = (load::<HALF>(a), load::<HALF>(b), load::<HALF>(c), load::<HALF>(d));
        let (e, f, g, h) = (load::<HALF>(e), load::<HALF>(f), load::<HALF>(g), load::<HALF>(h));
        // Pairs of words, then fours within each 128 bits, then the 128 bits.
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ef, gh) = (_mm256_unpacklo_epi32(e, f), _mm256_unpacklo_epi32(g, h));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        let (ef_high, gh_high) = (_mm256_unpackhi_epi32(e, f), _mm256_unpackhi_epi32(g, h));
        let low = [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ];
        let high = [
            _mm256_unpacklo_epi64(ef, gh),
            _mm256_unpackhi_epi64(ef, gh),
            _mm256_unpacklo_epi64(ef_high, gh_high),
            _mm256_unpackhi_epi64(ef_high, gh_high),
        ];
        [
            _mm256_permute2x128_si256::<0x20>(low[0], high[0]),
            _mm256_permute2x128_si256::<0x20>(low[1], high[1]),
            _mm256_permute2x128_si256::<0x20>(low[2], high[2]),
            _mm256_permute2x128_si256::<0x20>(low[3], high[3]),
            _mm256_permute2x128_si256::<0x31>(low[0], high[0]),
            _mm256_permute2x128_si256::<0x31>(low[1], high[1]),
            _mm256_permute2x128_si256::<0x31>(low[2], high[2]),
            _mm256_permute2x128_si256::<0x31>(low[3], high[3]),
        ]
    }

    /// Word `i` of every block, for each `i`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn transpose(blocks: [&[u8; 64]; 8]) -> [Vector; 16] {
        let [a, b, c, d, e, f, g, h] = transpose_half::<0>(blocks);
        let [i, j, k, l, m, n, o, p] = transpose_half::<1>(blocks);
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }
}

mod eight {
    use super::half::{Vector, add, gather, scatter, splat, transpose};
    use super::*;

    #[inline]
    #[target_feature(enable = "avx2")]
    fn rotate<const LEFT: i32, const RIGHT: i32>(x: Vector) -> Vector {
        _mm256_or_si256(_mm256_slli_epi32::<LEFT>(x), _mm256_srli_epi32::<RIGHT>(x))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn f(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)))
    }

    /// Its two halves have no bit in common, so that either `or` or an addition joins them; what does not hold `x`, the
    /// newest value, is ready before.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn g(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm256_or_si256(_mm256_and_si256(x, z), _mm256_andnot_si256(z, y))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn h(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm256_xor_si256(x, _mm256_xor_si256(y, z))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn i(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm256_xor_si256(y, _mm256_or_si256(x, _mm256_xor_si256(z, splat(u32::MAX))))
    }

    block_function!("avx2", 8);
}

mod eight_of_sixteen {
    use super::half::{Vector, add, gather, scatter, splat, transpose};
    use super::*;

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn rotate<const LEFT: i32, const RIGHT: i32>(x: Vector) -> Vector {
        _mm256_rol_epi32::<LEFT>(x)
    }

    // The eight bits say what the function gives for x, y, z = 000, 001, … 111, the lowest bit first.

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn f(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm256_ternarylogic_epi32::<0b1100_1010>(x, y, z)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn g(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm256_ternarylogic_epi32::<0b1110_0100>(x, y, z)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn h(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm256_ternarylogic_epi32::<0b1001_0110>(x, y, z)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn i(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm256_ternarylogic_epi32::<0b0011_1001>(x, y, z)
    }

    block_function!("avx2,avx512f,avx512vl", 8);
}

mod sixteen {
    use super::*;

    type Vector = __m512i;

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn gather(words: [u32; 16]) -> Vector {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = signed(words);
        _mm512_setr_epi32(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn scatter(vector: Vector) -> [u32; 16] {
        let [a, b, c, d, e, f, g, h] = half::scatter(_mm512_extracti64x4_epi64::<0>(vector));
        let [i, j, k, l, m, n, o, p] = half::scatter(_mm512_extracti64x4_epi64::<1>(vector));
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn splat(word: u32) -> Vector {
        _mm512_set1_epi32(word.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn add(x: Vector, y: Vector) -> Vector {
        _mm512_add_epi32(x, y)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn rotate<const LEFT: i32, const RIGHT: i32>(x: Vector) -> Vector {
        _mm512_rol_epi32::<LEFT>(x)
    }

    // As for eight lanes.

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn f(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm512_ternarylogic_epi32::<0b1100_1010>(x, y, z)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn g(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm512_ternarylogic_epi32::<0b1110_0100>(x, y, z)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn h(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm512_ternarylogic_epi32::<0b1001_0110>(x, y, z)
    }

    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn i(x: Vector, y: Vector, z: Vector) -> Vector {
        _mm512_ternarylogic_epi32::<0b0011_1001>(x, y, z)
    }

    /// Two transpositions of eight blocks, joined word by word.
    #[inline]
    #[target_feature(enable = "avx2,avx512f,avx512vl")]
    fn transpose(blocks: [&[u8; 64]; 16]) -> [Vector; 16] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = blocks;
        let low = half::transpose([a, b, c, d, e, f, g, h]);
        let high = half::transpose([i, j, k, l, m, n, o, p]);
        let join = |word: usize| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low[word]), high[word]);
        [
            join(0),
            join(1),
            join(2),
            join(3),
            join(4),
            join(5),
            join(6),
            join(7),
            join(8),
            join(9),
            join(10),
            join(11),
            join(12),
            join(13),
            join(14),
            join(15),
        ]
    }

    block_function!("avx2,avx512f,avx512vl", 16);
}
