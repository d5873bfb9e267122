use super::*;

#[test]
fn every_level_is_parsed_and_written_back_unchanged() -> Result<(), String> {
    use Level::*;
    for (key, level) in [
        ("Device", Object),
        ("Device.0", ObjectInstance),
        ("Device.0.UTC Offset", Resource),
        ("Test object.0.Integer array.4", ResourceInstance),
        ("Connectivity Monitoring.0.Radio Signal Strength", Resource),
        ("LwM2M Server.65534", ObjectInstance),
        // Names with dots, commas and slashes
        ("LwM2M v1.0 Test Object", Object),
        ("LwM2M v1.0 Test Object.0", ObjectInstance),
        ("LwM2M v1.0 Test Object.0.String", Resource),
        ("Air quality.0.PM2.5 24 hour average", Resource),
        ("LWM2M Security.0.TLS 1.3 Features To Use by Client", Resource),
        ("Access Control.3.Validity (MCC, MNC)", Resource),
        ("Security.0.DTLS/TLS Ciphersuite.2", ResourceInstance),
        ("Größe.0.Länge", Resource),
    ] {
        let path = Path::parse(key)?;
        assert_eq!(path.level(), level, "{key}");
        assert_eq!(path.to_string(), key);
        assert_eq!(Path::parse(&format!("{key}."))?, path, "a trailing dot means nothing: {key}");
    }
    Ok(())
}

#[test]
fn numbers_and_names_are_the_same_path() -> Result<(), String> {
    for (number, name) in [
        ("/3", "Device"),
        ("/3/0", "Device.0"),
        ("/3/0/14", "Device.0.UTC Offset"),
        ("/1/1/1", "LwM2M Server.1.Lifetime"),
        ("/6/0/0", "Location.0.Latitude"),
        ("/3/0/11/2", "Device.0.Error Code.2"),
        // A vendor's own resource
        ("/3/0/26241", "Device.0.26241"),
    ] {
        assert_eq!(Path::parse(number)?, Path::parse(name)?, "{number}");
        assert_eq!(Path::parse(number)?.to_string(), name);
        assert_eq!(Path::parse(name)?.by_number().as_deref(), Some(number));
        assert_eq!(Path::parse(&format!("{number}."))?, Path::parse(name)?, "a trailing dot means nothing");
        assert_eq!(Path::parse(&format!("{number}/"))?, Path::parse(name)?, "and neither does a slash");
    }
    // A resource by its number behind an object by its name
    assert_eq!(Path::parse("Device.0.14")?, Path::parse("/3/0/14")?);
    assert_eq!(Path::parse("Device.0.9999")?, Path::parse("/3/0/9999")?);
    // The second object of the name
    assert_eq!(Path::parse("/3336/0/6051")?.to_string(), "Location.0.Numeric Latitude");
    // Not described, so it passes unchanged
    assert_eq!(Path::parse("/32801/0/1")?.to_string(), "/32801/0/1");
    assert_eq!(Path::parse("/32801/0/1")?.by_number().as_deref(), Some("/32801/0/1"));
    assert_eq!(Path::parse("Boiler Controller.0.Pressure")?.by_number(), None);
    assert_eq!(Path::parse("/3/0/9999")?.to_string(), "Device.0.9999");
    Ok(())
}

#[test]
fn described_names_win_over_the_form() -> Result<(), String> {
    for (key, level) in [
        ("Robot PM.0.PM2.5", Level::Resource),
        ("Robot PM.0.PM2.5.1", Level::ResourceInstance),
        ("Vendor.0.PM2.5", Level::ResourceInstance),
        ("Temperature.v2.0.Value", Level::Resource),
        ("Device.Info.0", Level::ObjectInstance),
        ("LwM2M v1.0 Test Object.0", Level::ObjectInstance),
        ("LwM2M v1.0 Test Object.65534.String", Level::Resource),
        ("Up/Down Control.0.Increase Input State", Level::Resource),
    ] {
        assert_eq!((Path::parse(key)?.level(), Path::parse(key)?.to_string().as_str()), (level, key));
    }
    Ok(())
}

#[test]
fn digits_that_are_no_id_belong_to_a_name_without_a_description() -> Result<(), String> {
    for (key, level) in [
        ("Boiler.0.Mode 2.05", Level::Resource),
        ("Boiler.0.Mode 2.05.1", Level::ResourceInstance),
        ("Vendor.0.Band 868.95000", Level::Resource),
        ("Acme 1.05", Level::Object),
        ("Acme 1.05.0", Level::ObjectInstance),
        ("Acme 1.05.0.Level", Level::Resource),
        ("Acme 868.95000.7.Level 0.05", Level::Resource),
        ("Device.0.Mode 2.05", Level::Resource),
    ] {
        assert_eq!((Path::parse(key)?.level(), Path::parse(key)?.to_string().as_str()), (level, key));
    }
    assert_eq!(Path::parse("Acme 1.05.0.Level")?.object_name(), Some("Acme 1.05"));
    Ok(())
}

#[test]
fn a_name_may_go_on_with_a_slash_behind_a_described_one() -> Result<(), String> {
    for key in ["Temperature/Humidity.0.Value", "Temperature/Humidity", "Device/Info.0", "Device/UTC Offsets.0.x"] {
        assert_eq!(Path::parse(key)?.to_string(), key);
        assert!(Path::parse(key)?.descriptions().next().is_none(), "{key}");
    }
    Ok(())
}

#[test]
fn the_root_has_four_forms() {
    for key in ["/", "", ".", "all", "/.", "all."] {
        assert_eq!(Target::parse(key), Ok(Target::Root), "{key:?}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    for (key, why) in [
        ("Device..0", "empty name"),
        (".Device", "empty name"),
        ("Device.0..", "empty name"),
        ("..", "empty name"),
        ("Device.65535", "65535 is reserved"),
        ("Device.99999999999999999999", "65535 is reserved"),
        ("Device.00", "leading zero"),
        // The instance is missing
        ("Device.UTC Offset", "the object instance has to be a number"),
        ("Device.Error Code.0", "the object instance has to be a number"),
        ("Device.0.Error Code.65535", "65535 is reserved"),
        ("Device.0.Error Code.05", "leading zero"),
        ("Device.0.11.65535", "65535 is reserved"),
        ("Device/", "joined by dots"),
        ("Device//0", "joined by dots"),
        ("Device/UTC Offset", "joined by dots"),
        ("Device/UTC Offset.0", "joined by dots"),
        ("Device. 0", "did you mean \"Device.0\"?"),
        (" Device.0", "space"),
        ("Dev\nice.0", "control"),
        (
            "3.0.14",
            "object's name, as in Device.0, or with a slash, as in /3/0 (did you mean \"Device.0.UTC Offset\"?)",
        ),
        ("5", "did you mean \"Firmware Update\"?"),
        ("32801.0.1", "or with a slash, as in /3/0 (did you mean \"/32801/0/1\"?)"),
        ("//0", "the object has to be a number"),
        ("/3/0/x", "the resource has to be a number"),
        ("/3/0/14/0/0", "at most four parts"),
        ("/65535", "65535 is reserved"),
        ("/3/-1", "has to be a number"),
        ("/03", "leading zero"),
    ] {
        let message = Target::parse(key).unwrap_err();
        assert!(message.contains(why), "{key:?}: {message}");
    }
}

#[test]
fn errors_suggest_a_similar_path() -> Result<(), String> {
    for (key, suggestion) in [
        ("Device/0/Battery Level", "Device.0.Battery Level"),
        ("/Device/0/Battery Level", "Device.0.Battery Level"),
        ("Device/0", "Device.0"),
        ("Device/0/9", "Device.0.Battery Level"),
        ("Device/0/Batery Level", "Device.0.Battery Level"),
        ("Device.0/Battery Level", "Device.0.Battery Level"),
        ("3/0/Battery Level", "Device.0.Battery Level"),
        ("/3/0/Battery Level", "Device.0.Battery Level"),
        ("3/0.9", "Device.0.Battery Level"),
        ("3.0.UTC Offset", "Device.0.UTC Offset"),
        ("Device.x.UTC Offset", "Device.0.UTC Offset"),
        ("Device.-1.UTC Offset", "Device.0.UTC Offset"),
        ("Device.UTC Offset", "Device.0.UTC Offset"),
        ("Device.x", "Device.0"),
        ("Device.*.UTC Offset", "Device.0.UTC Offset"),
        ("Device.x.Error Code.0", "Device.0.Error Code.0"),
        ("Device.0x0.UTC Offset", "Device.0.UTC Offset"),
        ("LwM2M v1.0 Test Object.x.String Value", "LwM2M v1.0 Test Object.0.String Value"),
        ("RDB/4/Key", "RDB.4.Key"),
        ("LwM2M Server/1/Lifetime", "LwM2M Server.1.Lifetime"),
        ("3/x/14", "Device.0.UTC Offset"),
        ("3/-1/14", "Device.0.UTC Offset"),
        ("3 /0/14", "Device.0.UTC Offset"),
        ("3/x", "Device.0"),
        ("3//0", "Device.0"),
        ("/3//14", "Device.0.UTC Offset"),
        ("/3/-1", "Device.0"),
        ("/3/x", "Device.0"),
        ("/1//1", "LwM2M Server.1"),
        ("3-0-14", "Device.0.UTC Offset"),
        ("3,0,14", "Device.0.UTC Offset"),
        ("3:0:14", "Device.0.UTC Offset"),
        ("3(0)", "Device.0"),
        ("3 0 14", "Device.0.UTC Offset"),
        ("3.-1.14", "Device.0.UTC Offset"),
        ("Device.UTC Offset.0", "Device.0.UTC Offset"),
        ("Device.5/UTC Offset", "Device.0.UTC Offset"),
        ("Device /0/UTC Offset", "Device.0.UTC Offset"),
        ("32801-0-1", "/32801/0/1"),
        ("/all", "all"),
    ] {
        let why = Target::parse(key).unwrap_err();
        assert!(why.ends_with(&format!("(did you mean \"{suggestion}\"?)")), "{key}: {why}");
    }
    // A path of ids without the first slash is valid
    assert_eq!(Path::parse("3/0/14")?, Path::parse("Device.0.UTC Offset")?);
    assert_eq!(Path::parse("32801/0/1")?.to_string(), "/32801/0/1");
    assert_eq!(Path::parse("3/")?, Path::parse("Device")?);
    assert_eq!(Path::parse("3/0/")?, Path::parse("Device.0")?);
    // Valid, but perhaps not the name of another object
    for (key, suggestion) in [
        ("device/0/UTC Offset", "Device.0.UTC Offset"),
        ("Device,0,Battery Level", "Device.0.Battery Level"),
        ("Device\\0\\Battery Level", "Device.0.Battery Level"),
        ("Device(0)", "Device.0"),
        ("Device (0) Battery Level", "Device.0.Battery Level"),
        ("Device-0-Battery Level", "Device.0.Battery Level"),
        ("Device,Battery Level", "Device.0.Battery Level"),
        ("LWM2M Bearer Selection(0)Acceptable RSSI (GSM)", "LWM2M Bearer Selection.0.Acceptable RSSI (GSM)"),
        ("3.x.14", "Device.0.UTC Offset"),
        ("Device.x.14", "Device.0.UTC Offset"),
        ("ALL", "all"),
        ("All.", "all"),
        ("*", "all"),
    ] {
        assert!(Path::parse(key)?.descriptions().next().is_none(), "{key}");
        assert_eq!(Target::suggestion(key).as_deref(), Some(suggestion), "{key}");
    }
    // Not similar to a described name, or possibly the name of another object
    for key in ["Vendor/0/x", "Device Info.0.x", "3/4-way valve.0.State", "3.5mm jack.0.x", "Größe/0", "Device-Info.0"]
        .into_iter()
        .chain(["Device 2nd floor.0.x", "Location (GPS).0.Speed", "Device, indoor.0.x", "32801/x/1", "4-way.0.x"])
    {
        assert_eq!(Path::parse(key)?.to_string(), key);
        assert!(!Path::parse(key)?.starts_like_a_described_object() && Target::suggestion(key).is_none(), "{key}");
    }
    assert!(Path::parse("Device.Info.0")?.starts_like_a_described_object());
    Ok(())
}

#[test]
fn blanks_between_words_count_as_one_and_the_registered_name_is_sent() -> Result<(), String> {
    for key in [
        "WLAN connectivity.0.Multicast Packets Received",
        "WLAN connectivity.0.Multicast Packets  Received",
        "WLAN  connectivity.0.Multicast   Packets\u{a0}Received",
        "/12/0/42",
    ] {
        assert_eq!(Path::parse(key)?.to_string(), "WLAN connectivity.0.Multicast Packets  Received", "{key}");
    }
    assert_eq!(Path::parse("Device.0.UTC  Offset")?, Path::parse("Device.0.UTC Offset")?);
    // Names without a description pass unchanged
    assert_eq!(Path::parse("Boiler  7.0.Set  Point")?.to_string(), "Boiler  7.0.Set  Point");
    Ok(())
}

#[test]
fn above_and_below_follow_the_tree_not_the_text() -> Result<(), String> {
    let above = |path: Path| path.ancestors().map(|path| path.to_string()).collect::<Vec<_>>();
    assert_eq!(
        above(Path::parse("Test object.0.Integer array.4")?),
        ["Test object.0.Integer array", "Test object.0", "Test object"]
    );
    assert_eq!(above(Path::parse("LwM2M Server.10")?), ["LwM2M Server"]);
    assert_eq!(above(Path::parse("Device")?), [] as [&str; 0]);
    assert_eq!(Path::parse("Device.0.UTC Offset")?.object_instance(), Some(Path::parse("Device.0")?));
    assert_eq!(Path::parse("Device")?.object_instance(), None);
    Ok(())
}
