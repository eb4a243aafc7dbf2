"""A Modbus server of pymodbus: `tcp PORT` or `rtu DEVICE`. Prints a line once it serves. Units 1 and 2."""
import asyncio
import struct
import sys

from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusSerialServer, ModbusTcpServer


def unit(number):
    # Blocks count from 1, requests from 0.
    registers = [0] * 100
    registers[0:2] = struct.unpack(">HH", struct.pack(">f", 230.1))
    registers[2] = (-40) & 0xFFFF
    # A number whose least significant register comes first.
    registers[4:6] = [0x5678, 0x1234]
    registers[6:10] = struct.unpack(">4H", b"PUMP %d\0\0" % number)
    block = lambda values: ModbusSequentialDataBlock(1, values)
    return ModbusDeviceContext(
        co=block([False] * 16), di=block([n % 2 == 0 for n in range(16)]), hr=block(registers), ir=block(registers)
    )


async def main():
    context = ModbusServerContext(devices={1: unit(1), 2: unit(2)}, single=False)
    kind, place = sys.argv[1:3]
    if kind == "tcp":
        server = ModbusTcpServer(context, address=("127.0.0.1", int(place)))
    else:
        server = ModbusSerialServer(context, port=place, baudrate=19200, parity="N")
    serving = asyncio.create_task(server.serve_forever(background=False))
    await asyncio.sleep(0.5)
    print("serving", flush=True)
    await serving


asyncio.run(main())
