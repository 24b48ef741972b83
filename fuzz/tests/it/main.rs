//! Every target over its seeds, over what was found before, and over mutations of both: the same in every run.
//!
//! `CROSSDOCK_FUZZ_INPUTS` says how many mutations each target gets.

use std::path::Path;

use crossdock_fuzz::mutate::mutate;
use crossdock_fuzz::{Target, targets};
use fastrand::Rng;

/// Enough to break a decoder that trusts a length; few enough for every test run.
const INPUTS: u64 = 50_000;
const INPUT_BYTES_MAX: usize = 64 * 1024;

fn inputs() -> u64 {
    std::env::var("CROSSDOCK_FUZZ_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(INPUTS)
}

/// What was found by fuzzing before, and stays found.
fn found(target: &Target) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name);
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a listed file").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a found input can be read")).collect()
}

fn try_target(name: &str) {
    let target = targets().find(|target| target.name == name).expect("a target of this name");
    let corpus = [(target.seeds)(), found(target)].concat();
    assert!(!corpus.is_empty(), "a target without seeds tests nothing");
    corpus.iter().for_each(|input| (target.run)(input));
    (target.run)(&[]);
    let mut rng = Rng::with_seed(1);
    for index in 0..inputs() / target.cost {
        let mut input = rng.choice(&corpus).cloned().unwrap_or_default();
        let other = rng.choice(&corpus).cloned().unwrap_or_default();
        mutate(&mut rng, &mut input, &other, INPUT_BYTES_MAX);
        let kept = input.clone();
        let outcome = std::panic::catch_unwind(move || (target.run)(&input));
        assert!(outcome.is_ok(), "{name}: mutation {index} breaks a property; the input: {}", escaped(&kept));
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().take(4096).map(|byte| byte.escape_ascii().to_string()).collect()
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                // No seed, no found input and no mutation of them breaks a property of this target.
                try_target(stringify!($name));
            }
        )*

        #[test]
        fn every_target_is_tried() {
            // The list of tests above, the list of targets and the programs of libFuzzer are one list.
            let listed: Vec<&str> = targets().map(|target| target.name).collect();
            assert_eq!(listed, [$(stringify!($name)),*]);
            for name in listed {
                let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fuzz_targets/{name}.rs"));
                assert!(program.exists(), "{} is missing", program.display());
            }
        }
    };
}

targets! {
    request_head chunked_body signature header_values operation typed_request presigned_query request_documents
    bucket_policy post_form object_headers put_request whole_request structured_request
    rdma_token shm_lines client_reply log_batch log_entry superblock checkpoint_chunk store_vs_model
}

#[test]
fn seeds_are_accepted_by_their_decoders() {
    // A seed that its decoder refuses would leave everything behind the first check untried.
    use crossdock::layout::{BatchHeader, ChunkHeader, SecretKey, Superblock};
    let key = SecretKey(*b"secret of a fuzz");
    let seeds = |name: &str| (targets().find(|target| target.name == name).expect("a target").seeds)();
    assert!(seeds("log_batch").iter().all(|seed| BatchHeader::decode(seed, &key).is_ok()));
    assert!(seeds("checkpoint_chunk").iter().all(|seed| ChunkHeader::open(seed, &key).is_ok()));
    assert!(seeds("superblock").iter().all(|seed| Superblock::decode(seed).is_ok()));
    let codecs = crossdock_transport::token::Codecs::standard();
    let texts = seeds("rdma_token").into_iter().map(|seed| String::from_utf8(seed).expect("a seed is text"));
    assert!(texts.map(|text| codecs.parse(&text)).all(|named| named.is_ok()));
    use crossdock_fuzz::targets::put_request;
    let payloads: Vec<_> = seeds("put_request").iter().map(|seed| put_request::accepted(seed)).collect();
    assert_eq!(payloads, vec![Some(put_request::PAYLOAD.to_vec()); 8]);
    use crossdock_fuzz::targets::whole_request;
    let captured = crossdock_fuzz::captures::all();
    // A form says in its body who sends it.
    let signed = captured.iter().filter(|capture| !capture.bytes.windows(9).any(|part| part == b"form-data"));
    for capture in signed {
        let head = capture.bytes.iter().take(200).map(|&byte| char::from(byte)).collect::<String>();
        assert!(whole_request::understood(&capture.bytes).is_some(), "{head}");
    }
    for seed in seeds("log_entry") {
        let mut rest = seed.as_slice();
        while !rest.is_empty() {
            crossdock::layout::Entry::decode(&mut rest).expect("a seed is made of whole entries");
        }
    }
}

#[test]
fn planned_requests_get_far() {
    // Bytes at random plan requests of many operations that are understood in full, with their signature.
    use crossdock_fuzz::targets::{structured_request, whole_request};
    let mut rng = Rng::with_seed(1);
    let mut found = std::collections::BTreeMap::new();
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..rng.usize(16..400)).map(|_| rng.u8(..)).collect();
        let request = structured_request::planned(&bytes);
        if let Some((operation, _)) = request.and_then(|request| whole_request::understood(&request)) {
            *found.entry(operation.as_str()).or_insert(0) += 1;
        }
    }
    assert!(found.len() >= 30 && found.values().sum::<u32>() >= 300, "{found:?}");
}

#[test]
fn a_dictionary_is_what_libfuzzer_reads() {
    // One word in quotes on each line, with what is not text written in two digits.
    let dictionary = crossdock_fuzz::vocabulary::dictionary();
    assert!(dictionary.lines().count() > 100);
    for line in dictionary.lines() {
        let word = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("a word in quotes");
        let plain = word.replace("\\\\", "").replace("\\\"", "");
        assert!(!word.is_empty() && word.is_ascii() && !plain.contains('"'), "{line}");
        assert!(plain.split('\\').skip(1).all(|rest| rest.starts_with('x')), "{line}");
    }
}

#[test]
fn mutations_reach_a_fault() {
    // A decoder that trusts one length byte is caught within the bounded count: the mutations do bite.
    let seed = b"\x04abcd".to_vec();
    let mut rng = Rng::with_seed(1);
    let caught = (0..INPUTS).any(|_| {
        let mut input = seed.clone();
        mutate(&mut rng, &mut input, &seed, INPUT_BYTES_MAX);
        input.split_first().is_some_and(|(&length, rest)| rest.get(..usize::from(length)).is_none())
    });
    assert!(caught);
}
