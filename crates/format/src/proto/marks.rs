//! Our own: what no log record can tell.

/// The marks of one generation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Marks {
    /// The store that wrote them.
    #[prost(uint64, tag = "1")]
    pub store_id: u64,
    /// In no order.
    #[prost(message, repeated, tag = "2")]
    pub marks: Vec<Mark>,
}

/// One mark.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Mark {
    /// 1 a range delete, 2 an ingested file, 3 a record that is none of MVCC.
    #[prost(int32, tag = "1")]
    pub kind: i32,
    /// The region.
    #[prost(uint64, tag = "2")]
    pub region_id: u64,
    /// The version of its epoch.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The column family.
    #[prost(string, tag = "4")]
    pub cf: String,
    /// First encoded key.
    #[prost(bytes = "vec", tag = "5")]
    pub start_key: Vec<u8>,
    /// Behind the last encoded key; empty for none.
    #[prost(bytes = "vec", tag = "6")]
    pub end_key: Vec<u8>,
    /// It happened after this ts was resolved.
    #[prost(uint64, tag = "7")]
    pub after: u64,
    /// It had happened when this ts was taken.
    #[prost(uint64, tag = "8")]
    pub before: u64,
}
