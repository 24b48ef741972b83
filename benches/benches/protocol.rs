//! What each S3 request costs before the engine hears of it: its head, its signature, the framing of its body.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use crossdock_s3::protocol::auth::{
    Authentication, PayloadMode, Signer, SigningKey, authenticate, verify, verify_with_key,
};
use crossdock_s3::protocol::http::{ChunkedDecoder, HeadLimits, HeadParser, HeadStatus, Method, RequestHead};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW_SECONDS: u64 = 1_369_353_600;

/// A GET as boto3 sends it, signed.
fn signed_get() -> RequestHead {
    let mut head =
        RequestHead::for_client(Method::Get, "/photos/2026/11/holiday%20in%20rome.jpg", "", "127.0.0.1:9000");
    head.headers.push(
        "user-agent",
        b"Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11.7",
    );
    head.headers.push("accept-encoding", b"identity");
    head.headers.push("x-amz-checksum-mode", b"ENABLED");
    head.headers.push("amz-sdk-invocation-id", b"d6c2a7f8-3f4e-4f0c-9f53-0d8a8a4d6a01");
    head.headers.push("amz-sdk-request", b"attempt=1");
    let signer = Signer {
        access_key: "AKIAIOSFODNN7EXAMPLE",
        secret: SECRET,
        region: "us-east-1",
        session_token: None,
    };
    signer.sign_header(&mut head, &PayloadMode::Unsigned, NOW_SECONDS);
    head
}

fn wire(head: &RequestHead) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\n", head.method.as_str(), head.path).into_bytes();
    for (name, value) in head.headers.iter() {
        bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    bytes
}

fn heads(criterion: &mut Criterion) {
    let bytes = wire(&signed_get());
    let mut group = criterion.benchmark_group("request head");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("parse a signed GET", |bencher| {
        bencher.iter(|| {
            let status = HeadParser::new(HeadLimits::default()).parse(black_box(&bytes));
            assert!(matches!(status, Ok(HeadStatus::Complete(_))));
        });
    });
    group.finish();
}

fn signatures(criterion: &mut Criterion) {
    let head = signed_get();
    let Ok(Authentication::Signed(claim)) = authenticate(&head) else { panic!("the head is signed") };
    let key = SigningKey::derive(SECRET, &claim.scope);
    let mut group = criterion.benchmark_group("signature");
    // The yardstick: what no verification with a cached key can do without.
    group.bench_function("yardstick: one HMAC of 200 bytes", |bencher| {
        bencher.iter(|| key.sign(black_box(&[0; 200])));
    });
    group.bench_function("read the claim", |bencher| bencher.iter(|| authenticate(black_box(&head))));
    group.bench_function("verify with a cached key", |bencher| {
        bencher.iter(|| {
            assert!(verify_with_key(black_box(&claim), &head, &key, NOW_SECONDS).is_ok());
        });
    });
    group.bench_function("verify and derive the key", |bencher| {
        bencher.iter(|| assert!(verify(black_box(&claim), &head, SECRET, NOW_SECONDS).is_ok()));
    });
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked body of 1 MiB");
    group.throughput(Throughput::Bytes(1 << 20));
    for chunk_bytes in [1 << 20, 64 << 10, 4 << 10] {
        let mut body = Vec::new();
        for _ in 0..(1 << 20) / chunk_bytes {
            body.extend(format!("{chunk_bytes:x}\r\n").into_bytes());
            body.extend(vec![7; chunk_bytes]);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        group.bench_function(format!("in chunks of {} KiB", chunk_bytes >> 10), |bencher| {
            bencher.iter_batched(
                ChunkedDecoder::new,
                |mut decoder| {
                    let mut rest = black_box(body.as_slice());
                    while !decoder.is_finished() {
                        let piece = decoder.advance(rest).expect("a sound body");
                        rest = rest.get(piece.framing + piece.payload..).expect("a piece lies in its input");
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, heads, signatures, bodies);
criterion_main!(benches);
