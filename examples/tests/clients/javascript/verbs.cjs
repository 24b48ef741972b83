// Every verb through the AWS SDK for JavaScript. See ../verbs.py, which reads the lines printed here.
"use strict";

const assert = require("node:assert/strict");
const crypto = require("node:crypto");
const os = require("node:os");
const { Readable } = require("node:stream");

// The SDK signs what it says of this machine, and captures are for everybody to see.
if (process.env.CROSSDOCK_RECORD) os.release = () => "6.1.0";

const {
  S3Client, PutObjectCommand, GetObjectCommand, HeadObjectCommand, ListObjectsV2Command, paginateListObjectsV2,
  CopyObjectCommand, DeleteObjectCommand, DeleteObjectsCommand,
} = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");

const [endpoint, Bucket] = process.argv.slice(2);
const s3 = new S3Client({ endpoint, forcePathStyle: true, maxAttempts: 1 });
const MIB = 1024 * 1024;

/** The bytes that payloads.py makes. */
function payload(size) {
  return crypto.createHash("shake128", { outputLength: Math.max(size, 1) }).update(`1:${size}`).digest().subarray(0, size);
}

async function bytesOf(Key, more = {}) {
  const reply = await s3.send(new GetObjectCommand({ Bucket, Key, ...more }));
  return Buffer.from(await reply.Body.transformToByteArray());
}

/** That a command is refused with this error. */
async function refused(command, name) {
  await assert.rejects(s3.send(command), (error) => error.name === name);
}

const body = payload(300_000);

const attempts = {
  async put() {
    for (const size of [0, 1, 5000, 300_000]) {
      await s3.send(new PutObjectCommand({ Bucket, Key: `sizes/${size}`, Body: payload(size), Metadata: { colour: "blue" } }));
      const head = await s3.send(new HeadObjectCommand({ Bucket, Key: `sizes/${size}` }));
      assert.deepEqual([head.ContentLength, head.Metadata], [size, { colour: "blue" }]);
    }
    // A stream can not be read twice: its sum comes behind it, in a trailer.
    await s3.send(new PutObjectCommand({ Bucket, Key: "sizes/1", Body: Readable.from([payload(1)]), ContentLength: 1 }));
    const pieces = [body.subarray(0, 100_000), body.subarray(100_000)];
    await s3.send(new PutObjectCommand({ Bucket, Key: "a b+c/é", Body: Readable.from(pieces), ContentLength: body.length }));
  },
  async list() {
    const keys = [];
    for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket })) {
      keys.push(...page.Contents.map((entry) => entry.Key));
    }
    assert.deepEqual(keys, ["a b+c/é", "sizes/0", "sizes/1", "sizes/300000", "sizes/5000"]);
    const top = await s3.send(new ListObjectsV2Command({ Bucket, Delimiter: "/" }));
    assert.deepEqual(top.CommonPrefixes.map((entry) => entry.Prefix), ["a b+c/", "sizes/"]);
  },
  async get() {
    assert.deepEqual(await bytesOf("a b+c/é"), body);
    assert.deepEqual(await bytesOf("sizes/0"), payload(0));
    await refused(new GetObjectCommand({ Bucket, Key: "absent" }), "NoSuchKey");
  },
  async range() {
    assert.deepEqual(await bytesOf("a b+c/é", { Range: "bytes=7-100006" }), body.subarray(7, 100_007));
    assert.deepEqual(await bytesOf("a b+c/é", { Range: "bytes=-9" }), body.subarray(-9));
    await refused(new GetObjectCommand({ Bucket, Key: "sizes/1", Range: "bytes=1-" }), "InvalidRange");
  },
  async multipart() {
    const large = payload(10 * MIB + 1000);
    const pieces = Array.from({ length: 11 }, (_, index) => large.subarray(index * MIB, (index + 1) * MIB));
    await new Upload({ client: s3, partSize: 5 * MIB, params: { Bucket, Key: "large", Body: Readable.from(pieces) } }).done();
    assert.ok((await bytesOf("large")).equals(large));
    assert.deepEqual(await bytesOf("large", { PartNumber: 2 }), large.subarray(5 * MIB, 10 * MIB));
  },
  async copy() {
    const CopySource = `${Bucket}/${encodeURIComponent("a b+c/é")}`;
    await s3.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource }));
    assert.deepEqual(await bytesOf("copy"), body);
  },
  async delete() {
    await s3.send(new DeleteObjectCommand({ Bucket, Key: "copy" }));
    await refused(new HeadObjectCommand({ Bucket, Key: "copy" }), "NotFound");
    const Objects = ["sizes/0", "sizes/1", "absent"].map((Key) => ({ Key }));
    const reply = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }));
    assert.deepEqual([reply.Deleted.length, reply.Errors], [3, undefined]);
  },
  async conditional() {
    const first = await s3.send(new PutObjectCommand({ Bucket, Key: "once", Body: "first", IfNoneMatch: "*" }));
    await refused(new PutObjectCommand({ Bucket, Key: "once", Body: "second", IfNoneMatch: "*" }), "PreconditionFailed");
    await s3.send(new PutObjectCommand({ Bucket, Key: "once", Body: "third", IfMatch: first.ETag }));
    await refused(new GetObjectCommand({ Bucket, Key: "once", IfMatch: first.ETag }), "PreconditionFailed");
    assert.deepEqual(await bytesOf("once"), Buffer.from("third"));
  },
};

(async () => {
  for (const [verb, attempt] of Object.entries(attempts)) {
    let failure = null;
    try {
      await attempt();
    } catch (error) {
      failure = `${error.stack}\n${JSON.stringify(error.$metadata ?? {})}`;
    }
    console.log(JSON.stringify({ verb, failure }));
  }
})();
