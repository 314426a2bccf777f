"""Records everything, then proves that the cases notice mistakes."""

import mutations
import record_chat
import record_gguf
import record_models
import record_mtp
import record_naming
import record_preprocess
import record_tokenizer

if __name__ == "__main__":
    for case in record_models.CASES:
        record_models.record(case)
    record_mtp.main()
    record_naming.main()
    record_tokenizer.main()
    record_tokenizer.byte_level()
    record_gguf.main()
    record_chat.main()
    record_preprocess.main()
    mutations.main()
