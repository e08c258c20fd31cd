"""Writes the Parquet files of this folder with Arrow, as pandas and Hugging Face datasets do.

Usage: python make_parquet.py
Needs: pyarrow (made with 26.0). The encrypted files differ from run to run.
"""
import base64, os
import pyarrow as pa, pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

HERE = os.path.dirname(os.path.abspath(__file__))
TEXTS = [f"Note {i}: the kettle is in room {100 + i}. Grüße, 漢字." for i in range(12)]
TABLE = pa.table({"id": list(range(12)), "text": TEXTS})
CONVERSATIONS = [
    [{"role": "user", "content": f"Where is key {i}?"}, {"role": "assistant", "content": f"On hook {i}."}]
    + ([{"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Sure"}] if i % 3 == 0 else [])
    for i in range(12)
]
CHAT = pa.table({"messages": CONVERSATIONS, "source": ["a"] * 12})


def write(name, table, **how):
    pq.write_table(table, f"{HERE}/{name}.parquet", **how)


for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
    write(f"text-{codec}", TABLE, compression=codec, row_group_size=5)
write("text-second-pages", TABLE, data_page_version="2.0")
write("text-lengths", TABLE, use_dictionary=False, column_encoding={"text": "DELTA_LENGTH_BYTE_ARRAY", "id": "PLAIN"})
write("text-prefixes", TABLE, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY", "id": "PLAIN"})
write("text-repeated", pa.table({"text": [TEXTS[i % 3] for i in range(300)]}))
write("messages", CHAT, row_group_size=5)
write("messages-small-pages", CHAT, data_page_size=64, write_batch_size=2)
write("messages-second-pages", CHAT, data_page_size=64, write_batch_size=2, data_page_version="2.0")
write("instructions", pa.table({"instruction": ["Add.", "Say hi."], "input": ["1 and 2", None], "output": ["3", "hi"]}))
write("nulls", pa.table({"prompt": ["a", "b", "c"], "completion": ["A", None, "C"]}))
write("numbers", pa.table({"text": [1, 2]}))
write("not-utf8", pa.table({"text": pa.array([b"fine", b"\xff\xfe"], pa.binary())}))


class Keys(pe.KmsClient):
    def __init__(self, _):
        super().__init__()

    def wrap_key(self, key, _):
        return base64.b64encode(key)

    def unwrap_key(self, key, _):
        return base64.b64decode(key)


for name, plain in [("encrypted", False), ("encrypted-column", True)]:
    settings = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=plain)
    factory = pe.CryptoFactory(Keys)
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(f"{HERE}/{name}.parquet", TABLE.schema, encryption_properties=properties) as writer:
        writer.write_table(TABLE)
