//! AES in counter mode.

use aes::cipher::{KeyIvInit, StreamCipher};
use logtide_model::{Cipher, SecretKey};

use super::KeyFault;

/// Bytes of the initial counter block of every cipher of the format; the whole block counts, big endian.
pub const IV_LEN: usize = 16;

/// Encrypts or decrypts, which is the same.
pub(super) fn apply(cipher: Cipher, key: &SecretKey, iv: &[u8; IV_LEN], bytes: &mut [u8]) -> Result<(), KeyFault> {
    match cipher {
        Cipher::Aes128Ctr => stream::<ctr::Ctr128BE<aes::Aes128>>(cipher, key, iv, bytes),
        Cipher::Aes192Ctr => stream::<ctr::Ctr128BE<aes::Aes192>>(cipher, key, iv, bytes),
        Cipher::Aes256Ctr => stream::<ctr::Ctr128BE<aes::Aes256>>(cipher, key, iv, bytes),
    }
}

fn stream<C: KeyIvInit + StreamCipher>(
    cipher: Cipher,
    key: &SecretKey,
    iv: &[u8; IV_LEN],
    bytes: &mut [u8],
) -> Result<(), KeyFault> {
    let length = KeyFault::Length { cipher, found: key.len() };
    C::new_from_slices(key.expose(), iv).map_err(|_| length)?.apply_keystream(bytes);
    Ok(())
}

/// Refuses a key of another cipher.
pub(super) fn check_length(cipher: Cipher, key: &SecretKey) -> Result<(), KeyFault> {
    if key.len() == cipher.key_len() { Ok(()) } else { Err(KeyFault::Length { cipher, found: key.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST SP 800-38A, F.5: one plaintext and counter, three keys.
    #[test]
    fn the_vectors_of_the_standard() {
        let plain = hex::decode(concat!(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
        ));
        let iv: [u8; IV_LEN] = std::array::from_fn(|i| 0xf0 + i as u8);
        let vectors = [
            (
                Cipher::Aes128Ctr,
                "2b7e151628aed2a6abf7158809cf4f3c",
                "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff\
                 5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
            ),
            (
                Cipher::Aes192Ctr,
                "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
                "1abc932417521ca24f2b0459fe7e6e0b090339ec0aa6faefd5ccc2c6f4ce8e94\
                 1e36b26bd1ebc670d1bd1d665620abf74f78a7f6d29809585a97daec58c6b050",
            ),
            (
                Cipher::Aes256Ctr,
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
                 2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
            ),
        ];
        for (cipher, key, expected) in vectors {
            let mut bytes = plain.clone().unwrap();
            apply(cipher, &SecretKey::from_hex(key).unwrap(), &iv, &mut bytes).unwrap();
            assert_eq!(hex::encode(bytes), expected, "{cipher}");
        }
    }

    #[test]
    fn the_whole_block_counts() {
        let key = SecretKey::new([1; 16]);
        let mut at_end = [0; 32];
        apply(Cipher::Aes128Ctr, &key, &[0xff; IV_LEN], &mut at_end).unwrap();
        let mut at_zero = [0; 16];
        apply(Cipher::Aes128Ctr, &key, &[0; IV_LEN], &mut at_zero).unwrap();
        assert_eq!(at_end[16..], at_zero, "2^128 - 1 is followed by 0");
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let error = apply(Cipher::Aes256Ctr, &SecretKey::new([7; 16]), &[0; IV_LEN], &mut []).unwrap_err();
        assert_eq!(error, KeyFault::Length { cipher: Cipher::Aes256Ctr, found: 16 });
    }
}
