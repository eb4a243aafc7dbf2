// Says whether a room is too hot, and counts the readings of each device.
//
// The names are those that wit-bindgen 0.63 makes of wit/; look into obj/ if yours differ.

using System.Globalization;
using System.Text;
using System.Text.Json;
using HandlerWorld.wit.Imports.sandbar.handler;
using Settings = HandlerWorld.wit.Imports.wasi.config.IStoreImports;

namespace HandlerWorld;

public class HandlerWorldExportsImpl : IHandlerWorldExports
{
    static double limit = 30;

    public static void Configure()
    {
        var setting = Settings.Get("limit");
        if (setting is not null && !double.TryParse(setting, CultureInfo.InvariantCulture, out limit))
            throw new WitException<string>("setting `limit` is no number", 0);
    }

    public static List<ITypesImports.Output> Handle(ITypesImports.Reading reading)
    {
        double temperature;
        try
        {
            temperature = JsonDocument.Parse(reading.payload).RootElement.GetProperty("temperature").GetDouble();
        }
        catch (Exception)
        {
            throw new WitException<ITypesImports.Failure>(ITypesImports.Failure.Reject("the payload has no number `temperature`"), 0);
        }
        // Of this device: state belongs to the reading's key.
        var bytes = IStateImports.Get("readings");
        var readings = bytes is null ? 1 : int.Parse(Encoding.UTF8.GetString(bytes)) + 1;
        IStateImports.Set("readings", Encoding.UTF8.GetBytes(readings.ToString()), null);
        var hot = temperature > limit ? "true" : "false";
        var body = string.Create(CultureInfo.InvariantCulture,
            $"{{\"temperature\":{temperature},\"hot\":{hot},\"readings\":{readings}}}");
        var message = new ITypesImports.Message(reading.topic + "/checked", null, "application/json", [], Encoding.UTF8.GetBytes(body));
        return [ITypesImports.Output.Message(message)];
    }
}
