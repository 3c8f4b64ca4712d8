//! The tools that the other tests compare with, tried themselves: they are in a library whose own tests nothing
//! runs.

use coinduit_integration::json::{compact_members, decimal, literal};

#[test]
fn only_what_is_between_tokens_is_taken_away() {
    let members = compact_members(b"[ { \"a b\" : 1e-9 ,\n \"c\":\" \\\" \\\\\" , \"d\" : [ 1.0 ] } , 2 ]");
    assert_eq!(members, ["{\"a b\":1e-9,\"c\":\" \\\" \\\\\",\"d\":[1.0]}", "2"]);
    assert_eq!(literal(&members[0], "a b"), "1e-9");
}

#[test]
fn decimals_of_one_value_are_equal() {
    for (one, other) in [
        ("2.4980008270697834e-9", "0.0000000024980008270697834"),
        ("100", "1E+2"),
        ("-0.50", "-5e-1"),
        ("0", "-0.0"),
    ] {
        assert_eq!(decimal(one), decimal(other));
    }
    assert_ne!(decimal("1"), decimal("-1"));
    assert_ne!(decimal("1"), decimal("10"));
}
