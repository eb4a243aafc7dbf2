"""Drives python3-dbusmock's BlueZ, as the lines on standard input say. Each is answered by `ok`, or by what was wrong.

    adapter hci0                      an adapter is plugged in
    unplug hci0                       it is pulled out, with all that it heard
    off hci0                          it is switched off
    company ADDRESS RSSI NUMBER HEX   a device advertises a manufacturer's data
    service ADDRESS RSSI UUID HEX     a device advertises data of a service
"""

import sys

import dbus

DEVICE = "org.bluez.Device1"
PROPERTIES = "org.freedesktop.DBus.Properties"
bus = dbus.SystemBus()


def interface(path, name):
    return dbus.Interface(bus.get_object("org.bluez", path), name)


def device(address, rssi):
    """What a device's path is; with its signal as it is heard now."""
    path = "/org/bluez/hci0/dev_" + address.replace(":", "_")
    paths = interface("/", "org.freedesktop.DBus.ObjectManager").GetManagedObjects()
    if path not in paths:
        interface("/", "org.bluez.Mock").AddDevice("hci0", address, "someone")
    interface(path, PROPERTIES).Set(DEVICE, "RSSI", dbus.Int16(int(rssi), variant_level=1))
    return path


def data(text):
    return dbus.Array(bytes.fromhex(text), signature="y", variant_level=1)


def advertise(address, rssi, name, entries):
    interface(device(address, rssi), PROPERTIES).Set(DEVICE, name, entries)


def company(address, rssi, number, text=""):
    entries = {dbus.UInt16(int(number)): data(text)}
    advertise(address, rssi, "ManufacturerData", dbus.Dictionary(entries, signature="qv", variant_level=1))


def service(address, rssi, uuid, text=""):
    entries = {dbus.String(uuid): data(text)}
    advertise(address, rssi, "ServiceData", dbus.Dictionary(entries, signature="sv", variant_level=1))


ORDERS = {
    "adapter": lambda name: interface("/", "org.bluez.Mock").AddAdapter(name, "tested"),
    "unplug": lambda name: interface("/", "org.bluez.Mock").RemoveAdapterWithDevices(name),
    "off": lambda name: interface("/org/bluez/" + name, PROPERTIES).Set(
        "org.bluez.Adapter1", "Powered", dbus.Boolean(False, variant_level=1)
    ),
    "company": company,
    "service": service,
}

for line in sys.stdin:
    order, *arguments = line.split()
    try:
        ORDERS[order](*arguments)
        print("ok", flush=True)
    except Exception as problem:  # It is the test that decides what must not fail.
        print(str(problem).replace("\n", " "), flush=True)
