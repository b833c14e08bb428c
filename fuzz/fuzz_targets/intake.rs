//! Whatever a server hands on, and however it is cut: no panic, no more memory than was announced, the same
//! messages in one piece and in many, and any bytes of a stranger come back out of a message as they went in.

#![no_main]

// The source itself, not the package: with it comes the whole bus, and this builds in seconds.
mod nats {
    pub(crate) mod intake {
        #[path = "../../../../src/nats/intake/codec.rs"]
        pub(crate) mod codec;
        #[path = "../../../../src/nats/intake/headers.rs"]
        pub(crate) mod headers;
        pub(crate) mod fuzzed;
    }
}

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| nats::intake::fuzzed::run(data));
